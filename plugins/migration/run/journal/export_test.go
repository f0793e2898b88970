package journal

// Encode is for tests that write lines of their own.
var Encode = encode

// WithoutSync makes the mutant that does not sync.
func WithoutSync(o Options) Options {
	o.noSync = true
	return o
}
