// Package logwrites runs a guest whose kernel records, with the device-mapper target log-writes, what a cached volume does to
// its disk. Package recorded (plugins/gateway/volume) is what runs inside, and checks the recording.
package logwrites
