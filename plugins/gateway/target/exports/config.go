package exports

// Config is the section plugins.gateway.target.
type Config struct {
	ISCSI ISCSI `json:"iscsi,omitzero" jsonschema:"description=volumes as iSCSI disks, through the kernel's LIO"`
	NVMe  NVMe  `json:"nvme,omitzero" jsonschema:"description=volumes as NVMe namespaces over TCP, through the kernel's nvmet"`
}

// ISCSI is the iSCSI target.
type ISCSI struct {
	Listen  []string      `json:"listen,omitempty" jsonschema:"description=addresses of the portals, as 10.0.0.1:3260 or [::]:3260; default 0.0.0.0:3260"`
	Base    string        `json:"base,omitempty" jsonschema:"description=first part of the targets' names; a volume's target is base:volume; default iqn.2026-01.org.ratchetos"`
	Exports []ISCSIExport `json:"exports,omitempty" jsonschema:"description=one target each, with the volume as LUN 0"`
}

// ISCSIExport is one volume as a target of its own.
type ISCSIExport struct {
	Volume       string   `json:"volume" config:"required" jsonschema:"description=name of the volume"`
	Initiators   []string `json:"initiators,omitempty" jsonschema:"description=names of the initiators that may log in (iqn.…, eui.… or naa.…)"`
	AnyInitiator bool     `json:"any_initiator,omitempty" jsonschema:"description=any initiator may log in; only chap keeps strangers out then"`
	CHAP         CHAP     `json:"chap,omitzero" jsonschema:"description=what an initiator proves itself with"`
	UUID         string   `json:"uuid,omitempty" jsonschema:"description=identity of the disk; derived from the volume's place in its store when empty. Set it to keep the old one after the bucket was renamed"`
}

// CHAP are the secrets of a login. The mutual ones prove the target to the initiator.
type CHAP struct {
	User         string `json:"user,omitempty"`
	Secret       string `json:"secret,omitempty" config:"secret"`
	MutualUser   string `json:"mutual_user,omitempty"`
	MutualSecret string `json:"mutual_secret,omitempty" config:"secret"`
}

// NVMe is the NVMe/TCP target.
type NVMe struct {
	Listen  []string     `json:"listen,omitempty" jsonschema:"description=addresses of the ports, as 10.0.0.1:4420 or [::]:4420; default 0.0.0.0:4420"`
	Base    string       `json:"base,omitempty" jsonschema:"description=first part of the subsystems' names; a volume's subsystem is base:volume; default nqn.2026-01.org.ratchetos"`
	Exports []NVMeExport `json:"exports,omitempty" jsonschema:"description=one subsystem each, with the volume as namespace 1"`
}

// NVMeExport is one volume as a subsystem of its own.
type NVMeExport struct {
	Volume  string   `json:"volume" config:"required" jsonschema:"description=name of the volume"`
	Hosts   []string `json:"hosts,omitempty" jsonschema:"description=NQNs of the hosts that may connect"`
	AnyHost bool     `json:"any_host,omitempty" jsonschema:"description=any host may connect; this kernel's nvmet has no authentication"`
	UUID    string   `json:"uuid,omitempty" jsonschema:"description=identity of the namespace; as for iscsi"`
}

// Defaults.
const (
	DefaultISCSIListen = "0.0.0.0:3260"
	DefaultNVMeListen  = "0.0.0.0:4420"
	DefaultISCSIBase   = "iqn.2026-01.org.ratchetos"
	DefaultNVMeBase    = "nqn.2026-01.org.ratchetos"
)

// Socket is where the gateway serves the volumes to the target's process. Only root, and what has its rights to files,
// can connect.
const Socket = "/run/ratchet/target.sock"

// Enabled says whether anything is exported.
func (c *Config) Enabled() bool { return len(c.ISCSI.Exports)+len(c.NVMe.Exports) > 0 }

// Exports says whether a volume is exported.
func (c *Config) Exports(volume string) bool {
	for _, e := range c.ISCSI.Exports {
		if e.Volume == volume {
			return true
		}
	}
	for _, e := range c.NVMe.Exports {
		if e.Volume == volume {
			return true
		}
	}
	return false
}

// WithDefaults fills in what the configuration left out.
func (c Config) WithDefaults() Config {
	if len(c.ISCSI.Listen) == 0 {
		c.ISCSI.Listen = []string{DefaultISCSIListen}
	}
	if c.ISCSI.Base == "" {
		c.ISCSI.Base = DefaultISCSIBase
	}
	if len(c.NVMe.Listen) == 0 {
		c.NVMe.Listen = []string{DefaultNVMeListen}
	}
	if c.NVMe.Base == "" {
		c.NVMe.Base = DefaultNVMeBase
	}
	return c
}
