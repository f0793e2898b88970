package api

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
)

// FirmwareBackend is the part of Backend for firmware of devices and devices that are new.
type FirmwareBackend interface {
	Firmware(ctx context.Context) ([]*apipb.FirmwareDevice, error)
	// VerifyFirmware reads one device back, or all with the empty selector.
	VerifyFirmware(ctx context.Context, selector string) ([]*apipb.VerifiedFirmware, error)
	// StageFirmware adds a piece to the package that FlashFirmware takes and returns its size so far.
	StageFirmware(ctx context.Context, offset uint64, data []byte) (uint64, error)
	// FlashFirmware emits progress and the result last. A failed emit does not end it: a device must
	// not stay half written because somebody closed a window.
	FlashFirmware(ctx context.Context, request *apipb.FlashFirmwareRequest, emit func(*apipb.FlashFirmwareProgress) error) error
	AdmitDevice(ctx context.Context, selector string) (*apipb.AdmitReply, error)
}

type (
	firmwares  struct{ *Server }
	admissions struct{ *Server }
)

var (
	_ apipbconnect.FirmwareHandler  = firmwares{}
	_ apipbconnect.AdmissionHandler = admissions{}
)

func (s firmwares) List(ctx context.Context, _ *apipb.ListFirmwareRequest) (*apipb.ListFirmwareReply, error) {
	list, err := s.backend.Firmware(ctx)
	return &apipb.ListFirmwareReply{Devices: list}, err
}

func (s firmwares) Verify(ctx context.Context, r *apipb.VerifyFirmwareRequest) (*apipb.VerifyFirmwareReply, error) {
	list, err := s.backend.VerifyFirmware(ctx, r.GetSelector())
	return &apipb.VerifyFirmwareReply{Devices: list}, err
}

func (s firmwares) Stage(ctx context.Context, r *apipb.StageFirmwareRequest) (*apipb.StageFirmwareReply, error) {
	if r.GetOffset() != 0 {
		skipAudit(ctx) // one line for a package, not one for each piece
	}
	size, err := s.backend.StageFirmware(ctx, r.GetOffset(), r.GetData())
	return &apipb.StageFirmwareReply{Size: size}, err
}

func (s firmwares) Flash(ctx context.Context, r *apipb.FlashFirmwareRequest, out *connect.ServerStream[apipb.FlashFirmwareProgress]) error {
	if r.GetSelector() == "" {
		return fmt.Errorf("%w: name the device; see: ratchetctl firmware list", ErrInvalid)
	}
	begin := time.Now()
	err := wire(s.backend.FlashFirmware(ctx, r, out.Send))
	// Streams are not audited as calls are: they end when the reader wants.
	s.audit(ctx, apipbconnect.FirmwareFlashProcedure, r.GetSelector(), time.Since(begin), err)
	return err
}

func (s admissions) Admit(ctx context.Context, r *apipb.AdmitRequest) (*apipb.AdmitReply, error) {
	if r.GetSelector() == "" {
		return nil, fmt.Errorf("%w: name the device; see: ratchetctl hw list", ErrInvalid)
	}
	return s.backend.AdmitDevice(ctx, r.GetSelector())
}
