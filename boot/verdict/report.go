package verdict

import "time"

// Decision is the outcome of a check, for the box or for one device.
type Decision string

const (
	// Released hardware is bound and handed out.
	Released Decision = "released"
	// Isolated hardware has no driver bound and is not used.
	Isolated Decision = "isolated"
	// Quarantined hardware is known to work but was never admitted by an operator.
	Quarantined Decision = "quarantined"
)

// Verdict is a decision with its reason and what the operator can type next.
type Verdict struct {
	Decision Decision `json:"decision"`
	// Code is a stable word for machines, for example "ledger-corrupt" or "counter-moved".
	Code   string `json:"code"`
	Reason string `json:"reason"`
	// Next is the exact next command, empty when there is nothing to do.
	Next string `json:"next,omitempty"`
}

// Device is the verdict for one device, by its stable id.
type Device struct {
	ID string `json:"id"`
	// Place is where it is, or was last: without a driver it has no other name in the kernel.
	Place string `json:"place,omitempty"`
	Kind  string `json:"kind,omitempty"`
	Verdict
}

// The environment that init gives to core: descriptors, which core inherits over exec. The first three are sealed memfds.
const (
	EnvReport   = "RATCHET_BOOT_REPORT_FD" // the Report, as JSON; without it core was not started by init
	EnvConfig   = "RATCHET_CONFIG_FD"      // the configuration, as YAML
	EnvSecret   = "RATCHET_SECRET_FD"      // core's key, 32 bytes, empty on an isolated box
	EnvWatchdog = "RATCHET_WATCHDOG_FD"    // the open watchdog, of a machine that has one
)

// ReportVersion is the Version of reports that this image's init writes and its core reads.
const ReportVersion = 1

// Report is what init hands to core in EnvReport.
type Report struct {
	Version  int      `json:"version"` // ReportVersion
	Box      Verdict  `json:"box"`
	Counter  uint64   `json:"counter"`  // C, the attempts ever made
	Expected uint64   `json:"expected"` // the counter value in E
	Open     int      `json:"open"`     // attempts closed at this boot
	Devices  []Device `json:"devices,omitempty"`
	Images   []Image  `json:"images,omitempty"` // the image slots of a released box

	Image       string `json:"image"`       // version of the UKI
	Flavour     string `json:"flavour"`     // "cloud", "full" or "" when unknown
	Slot        string `json:"slot"`        // "A", "B" or "" on a direct kernel boot
	Development bool   `json:"development"` // a development UKI: it may provision itself
	Provisioned bool   `json:"provisioned"` // by this boot
	SecureBoot  bool   `json:"secure_boot"`
	// BundleKeys are the public keys (PEM) of who may publish updates for this box.
	BundleKeys []string `json:"bundle_keys,omitempty"`
	// OwnerKeys are those (PEM) of who may ask init for something from afar.
	OwnerKeys []string `json:"owner_keys,omitempty"`
	// Fault is what this development image is built to do wrong, for tests.
	Fault string `json:"fault,omitempty"`
	// SecurityVersion is the image's.
	SecurityVersion uint   `json:"security_version"`
	TPM             TPM    `json:"tpm"`
	BootDisk        Disk   `json:"boot_disk"`
	Timing          Timing `json:"timing"`
}

// TPM names the chip's persistent storage root key and counts what the boot cost.
type TPM struct {
	Present  bool   `json:"present"`
	SRKName  string `json:"srk_name,omitempty"` // hex
	PCR7     string `json:"pcr7,omitempty"`
	PCR11    string `json:"pcr11,omitempty"` // before the cap
	Commands int    `json:"commands"`        // sent before core was executed
	// Floor is the lowest security version that the TPM leaves to run here.
	Floor uint `json:"floor"`
}

// Disk is the disk the image was booted from and its partitions' device nodes, "" when absent.
type Disk struct {
	ID     string `json:"id,omitempty"`
	Node   string `json:"node,omitempty"`
	Ledger string `json:"ledger,omitempty"`
	State  string `json:"state,omitempty"`
	Data   string `json:"data,omitempty"`
	// Slots are its image slots.
	Slots []DiskSlot `json:"slots,omitempty"`
}

// DiskSlot is where an image slot is.
type DiskSlot struct {
	Name    string `json:"name"` // "A" or "B"
	Node    string `json:"node"`
	GUID    string `json:"guid"`   // unique GUID of the partition
	Number  uint32 `json:"number"` // of the partition, from 1
	Start   uint64 `json:"start"`  // in sectors
	Sectors uint64 `json:"sectors"`
}

// Timing holds spans on the boot clock (CLOCK_BOOTTIME).
type Timing struct {
	Init       time.Duration `json:"init"`        // kernel start to the first line of init
	BoxVerdict time.Duration `json:"box_verdict"` // opening of the TPM to the verdict of the box
	ReadBack   time.Duration `json:"read_back"`   // reading the devices back in quarantine
	Unseal     time.Duration `json:"unseal"`      // secret from the TPM, STATE and DATA unlocked; beside the reading back
	AllVerdict time.Duration `json:"all_verdict"` // opening of the TPM to the last device verdict
	Handover   time.Duration `json:"handover"`    // kernel start to exec of core
}
