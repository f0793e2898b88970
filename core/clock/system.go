package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// system is the clock of this machine.
type system struct{}

var _ System = system{}

func (system) Now() time.Time { return time.Now() }

// RTC reads /dev/rtc0, which the kernel keeps in UTC here.
func (system) RTC() (time.Time, error) {
	fd, err := unix.Open("/dev/rtc0", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return time.Time{}, fmt.Errorf("open real time clock: %w", err)
	}
	defer unix.Close(fd)
	t, err := unix.IoctlGetRTCTime(fd)
	if err != nil {
		return time.Time{}, fmt.Errorf("read real time clock: %w", err)
	}
	return time.Date(int(t.Year)+1900, time.Month(t.Mon+1), int(t.Mday), int(t.Hour), int(t.Min), int(t.Sec), 0, time.UTC), nil
}

func (system) Step(to time.Time) error {
	tv := unix.NsecToTimeval(to.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set system time: %w", err)
	}
	return trusted()
}

// Slew does what adjtime(3) does: the kernel runs the clock half a per mille faster or slower
// until the offset is gone.
func (system) Slew(offset time.Duration) error {
	const singleShot = 0x8001 // ADJ_OFFSET_SINGLESHOT
	if _, err := unix.Adjtimex(&unix.Timex{Modes: singleShot, Offset: offset.Microseconds()}); err != nil {
		return fmt.Errorf("slew system time: %w", err)
	}
	return trusted()
}

// trusted clears the kernel's mark of an unsynchronised clock; from then on it writes the time
// to the real time clock every eleven minutes.
func trusted() error {
	const adjStatus, adjMaxError, adjEstError = 0x0010, 0x0004, 0x0008
	if _, err := unix.Adjtimex(&unix.Timex{Modes: adjStatus | adjMaxError | adjEstError}); err != nil {
		return fmt.Errorf("mark system time as synchronised: %w", err)
	}
	return nil
}
