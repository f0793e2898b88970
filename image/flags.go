package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/image/keys"
)

// ringFlags adds the two flags that say which keys to use.
func ringFlags(f *pflag.FlagSet, r *keys.Ring) {
	f.StringVar(&r.Dir, "keys", "", "folder of keys made by 'image keys init' (default: the development keys)")
	f.StringVar(&r.Detach, "detach", "", "folder for signatures of keys whose private half is not here")
	f.Var(sources{r}, "key", "where one key is, as ROLE=URI: a file or pkcs11:…; may be repeated")
}

// sources collects ROLE=URI.
type sources struct{ ring *keys.Ring }

var _ pflag.Value = sources{}

func (s sources) Set(v string) error {
	name, uri, ok := strings.Cut(v, "=")
	if !ok || uri == "" {
		return fmt.Errorf("%q is not ROLE=URI", v)
	}
	role, err := keys.ParseRole(name)
	if err != nil {
		return err
	}
	if s.ring.URIs == nil {
		s.ring.URIs = make(map[keys.Role]string)
	}
	s.ring.URIs[role] = uri
	return nil
}

func (sources) String() string { return "" }

// Type is shown in the help.
func (sources) Type() string { return "ROLE=URI" }

// knownGood collects KIND/MODEL=VERSION.
type knownGood struct{ list *[]bundle.Firmware }

var _ pflag.Value = knownGood{}

const knownGoodUsage = "firmware of a device that was tested with this release, as KIND/MODEL=VERSION; may be repeated"

func (k knownGood) Set(v string) error {
	kind, rest, _ := strings.Cut(v, "/")
	model, version, _ := strings.Cut(rest, "=")
	if kind != string(hw.NIC) && kind != string(hw.Disk) || model == "" || version == "" {
		return fmt.Errorf("%q is not KIND/MODEL=VERSION, with nic or disk for KIND", v)
	}
	*k.list = append(*k.list, bundle.Firmware{Kind: kind, Model: model, Version: version})
	return nil
}

func (knownGood) String() string { return "" }

// Type is shown in the help.
func (knownGood) Type() string { return "KIND/MODEL=VERSION" }
