package remote

import "github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"

const (
	remoteProgram = 0x20008086
	qemuProgram   = 0x20008087
)

// procedure is a number of remote_protocol.x.
type procedure int32

func (p procedure) id() rpc.Proc {
	return rpc.Proc{Program: remoteProgram, Version: 1, Number: int32(p)}
}

// Procedures of the remote program.
const (
	connectOpen              procedure = 1
	connectClose             procedure = 2
	connectGetVersion        procedure = 4
	connectGetMaxVCPUs       procedure = 5
	nodeGetInfo              procedure = 6
	connectGetCapabilities   procedure = 7
	domainCreateXML          procedure = 10
	domainGetXML             procedure = 14
	domainLookupByName       procedure = 23
	domainResume             procedure = 28
	domainSuspend            procedure = 34
	connectSupportsFeature   procedure = 60
	authList                 procedure = 66
	authPolkit               procedure = 70
	nodeGetFreeMemory        procedure = 102
	domainIsPersistent       procedure = 151
	domainAttachDeviceFlags  procedure = 160
	domainDetachDeviceFlags  procedure = 161
	connectBaselineCPU       procedure = 162
	domainAbortJob           procedure = 164
	domainMigrateMaxDowntime procedure = 166
	domainUpdateDeviceFlags  procedure = 174
	domainGetBlockInfo       procedure = 194
	domainSetVCPUsFlags      procedure = 199
	domainMigrateSetMaxSpeed procedure = 207
	domainGetState           procedure = 212
	nodeGetCPUStats          procedure = 227
	nodeGetMemoryStats       procedure = 228
	domainUndefineFlags      procedure = 231
	domainDestroyFlags       procedure = 234
	domainSetMetadata        procedure = 264
	domainGetMetadata        procedure = 265
	connectListAllDomains    procedure = 273
	connectListAllNetworks   procedure = 283
	domainOpenChannel        procedure = 296
	domainGetJobStats        procedure = 298
	domainMigrateBegin       procedure = 302
	domainMigratePrepare     procedure = 303
	domainMigratePerform     procedure = 305
	domainMigrateFinish      procedure = 306
	domainMigrateConfirm     procedure = 307
	connectEventRegister     procedure = 316
	connectGetDomainCaps     procedure = 342
	connectGetAllDomainStats procedure = 344
	domainDefineXMLFlags     procedure = 350
	domainMigratePostCopy    procedure = 364
	domainStartDirtyRate     procedure = 427
	eventLifecycle           procedure = 318
	eventDeviceRemoved       procedure = 333
	eventDeviceRemovalFailed procedure = 367
)

// monitorCommand is procedure 1 of the program for QEMU alone.
var monitorCommand = rpc.Proc{Program: qemuProgram, Version: 1, Number: 1}

// Bounds of what the daemon may answer.
const (
	maxText    = 4 << 20 // XML
	maxName    = 64 << 10
	maxDomains = 16384
	maxParams  = 2048
	maxCookie  = 4 << 20
	maxAuth    = 20
)
