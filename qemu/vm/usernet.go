package vm

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// forward is one row of QEMU's list of user network connections that is a forward, not a connection.
type forward struct {
	host  string // address and port on the host
	guest int
}

// forwards asks QEMU where its forwards listen: with host port zero only it knows.
func forwards(ctx context.Context, q *QMP) (map[int]string, error) {
	var table string
	args := map[string]string{"command-line": "info usernet"}
	if err := q.Do(ctx, "human-monitor-command", args, &table); err != nil {
		return nil, err
	}
	list, err := parseUsernet(table)
	if err != nil {
		return nil, err
	}
	byGuest := map[int]string{}
	for _, f := range list {
		byGuest[f.guest] = f.host
	}
	return byGuest, nil
}

// parseUsernet reads the text of "info usernet":
//
//	Hub -1 (net0):
//	  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
//	  TCP[HOST_FORWARD]  14       127.0.0.1 34567       10.0.2.15    22     0     0
func parseUsernet(table string) ([]forward, error) {
	var list []forward
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP[HOST_FORWARD]" {
			continue
		}
		if len(f) < 6 {
			return nil, fmt.Errorf("parse user network table: short line %q", line)
		}
		host, err := strconv.ParseUint(f[3], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("parse user network table: host port: %w", err)
		}
		guest, err := strconv.ParseUint(f[5], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("parse user network table: guest port: %w", err)
		}
		list = append(list, forward{host: net.JoinHostPort(f[2], strconv.FormatUint(host, 10)), guest: int(guest)})
	}
	return list, nil
}
