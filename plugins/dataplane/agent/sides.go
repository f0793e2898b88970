package agent

// maker makes one side.
type maker struct {
	name string
	pins bool // it has programs
	make func(resources) (side, error)
}

// sidesOf are the sides that the file asks for.
func sidesOf(c *Config) []maker {
	var out []maker
	return out
}
