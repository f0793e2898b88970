// Ratchet is the one binary of the appliance. argv[0] or the first argument picks the applet.
package main

func main() {}
