// Package strict decodes configuration without forgiving anything, and reports every
// mistake of one pass.
//
// encoding/json stops at the first error, accepts keys in any case, ignores unknown ones
// and knows neither enumerations nor ranges. An operator who edits a file over a slow
// console wants all mistakes at once, each with the path at which it was made; the caller
// turns paths into lines and columns (package config).
//
// The same struct tags drive Decode and Schema, so that an editor's completion and the
// appliance never disagree:
//
//	type Volume struct {
//		Name string   `json:"name" config:"required" jsonschema:"description=name of the NBD export"`
//		Size Size     `json:"size" config:"required,min=1MiB"`
//		Ack  string   `json:"ack"  config:"enum=log|ring"`
//		Key  string   `json:"key"  config:"secret"`
//		Age  Duration `json:"age"  config:"min=1s,max=1h"`
//	}
//
// config options: required, enum=a|b, min= and max= (numbers, Size, Duration; the number of
// elements of a list), secret (never shown; writeOnly in the schema) and rest (a
// json.RawMessage that receives the object of all keys no other field wants). A struct that
// has a method SetDefaults is given the chance to fill itself before its keys are applied.
//
// The package does no I/O, keeps no state and is safe for concurrent use. It depends on
// the standard library only: every plugin process links it, and start-up time counts.
package strict
