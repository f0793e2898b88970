package api

import (
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// requiredRole is the lowest role that may call a procedure, and false for one that nobody
// has decided about, which is refused.
func requiredRole(procedure string) (pki.Role, bool) {
	switch procedure {
	case apipbconnect.AccessEnrolProcedure:
		return pki.None, true

	case apipbconnect.SystemStatusProcedure,
		apipbconnect.SystemVersionProcedure,
		apipbconnect.PluginsListProcedure,
		apipbconnect.PluginsLogsProcedure,
		apipbconnect.PluginsInvokeProcedure, // methods that change something: operator, see handlers.go
		apipbconnect.ConfigCheckProcedure,
		apipbconnect.HardwareListProcedure,
		apipbconnect.CounterShowProcedure,
		apipbconnect.UpdateStatusProcedure,
		apipbconnect.RecoveryShowProcedure,
		apipbconnect.FirmwareListProcedure,
		apipbconnect.FirmwareVerifyProcedure,
		metricsPath:
		return pki.Viewer, true

	case apipbconnect.PluginsRestartProcedure,
		apipbconnect.ConfigShowProcedure: // holds the keys of object stores
		return pki.Operator, true

	case apipbconnect.SystemPowerProcedure,
		apipbconnect.RecoveryEnterProcedure,
		apipbconnect.RecoveryRequestProcedure,
		apipbconnect.ConfigApplyProcedure,
		apipbconnect.ConfigConfirmProcedure,
		apipbconnect.HardwareClaimProcedure,
		apipbconnect.HardwareReleaseProcedure,
		apipbconnect.FirmwareStageProcedure,
		apipbconnect.FirmwareFlashProcedure,
		apipbconnect.AdmissionAdmitProcedure,
		apipbconnect.UpdateStageProcedure,
		apipbconnect.UpdateApplyProcedure,
		apipbconnect.UpdateRollbackProcedure,
		apipbconnect.UpdateSettleProcedure,
		apipbconnect.AccessCreateTokenProcedure:
		return pki.Admin, true
	}
	return pki.None, false
}
