package catalogue

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:generate go run ./embed

// table is configs/hardware.yaml as JSON. init and core read the catalogue at every start, and
// reading YAML takes many times as long. A test holds the two against each other.
//
//go:embed table.json
var table []byte

// Embedded reads the catalogue of this build.
func Embedded() (*Catalogue, error) {
	var f file
	if err := json.Unmarshal(table, &f); err != nil {
		return nil, fmt.Errorf("read embedded hardware catalogue: %w", err)
	}
	return build(f)
}

// Table makes the embedded form out of the YAML document.
func Table(yaml []byte) ([]byte, error) {
	f, err := decode(yaml)
	if err != nil {
		return nil, fmt.Errorf("read hardware catalogue: %w", err)
	}
	data, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write hardware catalogue: %w", err)
	}
	return append(data, '\n'), nil
}
