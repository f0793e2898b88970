package nbd

// Limits. A client beyond them gets an error or loses its connection.
const (
	// MaxRequest is the largest READ or WRITE in bytes.
	MaxRequest = 32 << 20
	// MaxOption is the largest option of the handshake in bytes.
	MaxOption = 64 << 10
	// MaxName is the longest export name in bytes.
	MaxName = 4096

	// defaultSector is the block size the protocol tells clients to assume.
	defaultSector = 512
	// maxOptions is how often a client may haggle; real ones need fewer than ten.
	maxOptions = 64
	// maxExtents bounds one reply to BLOCK_STATUS; clients ask again from where it ends.
	maxExtents = 4096
)

const (
	magicInit       uint64 = 0x4e42444d41474943 // NBDMAGIC
	magicOption     uint64 = 0x49484156454f5054 // IHAVEOPT
	magicOptReply   uint64 = 0x0003e889045565a9
	magicRequest    uint32 = 0x25609513
	magicSimple     uint32 = 0x67446698
	magicStructured uint32 = 0x668e33ef
)

// Flags of the server's greeting and of the client's answer share their bits.
const (
	flagFixedNewstyle uint16 = 1 << 0
	flagNoZeroes      uint16 = 1 << 1
)

// Transmission flags.
const (
	flagHasFlags     uint16 = 1 << 0
	flagReadOnly     uint16 = 1 << 1
	flagSendFlush    uint16 = 1 << 2
	flagSendFUA      uint16 = 1 << 3
	flagSendTrim     uint16 = 1 << 5
	flagSendZeroes   uint16 = 1 << 6
	flagSendDF       uint16 = 1 << 7
	flagMultiConn    uint16 = 1 << 8
	flagSendCache    uint16 = 1 << 10
	flagSendFastZero uint16 = 1 << 11
)

// Options. The numbers of the two about contexts are those that clients use; an old copy of the
// protocol text has others.
const (
	optExportName      uint32 = 1
	optAbort           uint32 = 2
	optList            uint32 = 3
	optStartTLS        uint32 = 5
	optInfo            uint32 = 6
	optGo              uint32 = 7
	optStructuredReply uint32 = 8
	optListMeta        uint32 = 9
	optSetMeta         uint32 = 10
)

// Option replies; errors have bit 31.
const (
	repAck           uint32 = 1
	repServer        uint32 = 2
	repInfo          uint32 = 3
	repMeta          uint32 = 4
	repErrUnsup      uint32 = 1<<31 + 1
	repErrPolicy     uint32 = 1<<31 + 2
	repErrInvalid    uint32 = 1<<31 + 3
	repErrTLSReqd    uint32 = 1<<31 + 5
	repErrUnknown    uint32 = 1<<31 + 6
	repErrBlockSize  uint32 = 1<<31 + 8
	infoExport       uint16 = 0
	infoName         uint16 = 1
	infoDescription  uint16 = 2
	infoBlockSize    uint16 = 3
	stateHole        uint32 = 1 << 0
	stateZero        uint32 = 1 << 1
	optionHeaderLen         = 16
	requestLen              = 28
	simpleLen               = 16
	structuredLen           = 20
	offsetDataLen           = structuredLen + 8
	offsetHoleLen           = structuredLen + 12
	oldZeroes               = 124
	maxErrorMessage         = 256
	extentDescriptor        = 8
)

// Command is the type of a request.
type Command uint16

// Commands.
const (
	CmdRead        Command = 0
	CmdWrite       Command = 1
	CmdDisc        Command = 2
	CmdFlush       Command = 3
	CmdTrim        Command = 4
	CmdCache       Command = 5
	CmdWriteZeroes Command = 6
	CmdBlockStatus Command = 7
)

// Command flags.
const (
	cmdFUA      uint16 = 1 << 0
	cmdNoHole   uint16 = 1 << 1
	cmdDF       uint16 = 1 << 2
	cmdReqOne   uint16 = 1 << 3
	cmdFastZero uint16 = 1 << 4
)

// Structured reply chunks.
const (
	replyDone       uint16 = 1 << 0
	chunkNone       uint16 = 0
	chunkOffsetData uint16 = 1
	chunkOffsetHole uint16 = 2
	chunkStatus     uint16 = 5
	chunkError      uint16 = 1<<15 + 1
)
