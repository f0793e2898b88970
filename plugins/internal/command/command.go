// Package command is what the commands of plugins in ratchetctl have in common.
package command

import "context"

// App is what ratchetctl offers to a plugin's commands.
type App interface {
	// Invoke calls a method of a plugin's management service through core.
	Invoke(ctx context.Context, plugin, method string, request, reply any) error
	// Print writes value as JSON or YAML, or the table, as the user chose.
	Print(value any, columns []string, rows [][]string) error
}
