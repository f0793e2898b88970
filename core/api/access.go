package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/pki"
)

type access struct{ *Server }

var _ apipbconnect.AccessHandler = access{}

func (s access) CreateToken(_ context.Context, r *apipb.CreateTokenRequest) (*apipb.CreateTokenReply, error) {
	if s.authority == nil {
		return nil, fmt.Errorf("%w: this appliance listens on no network address, so nobody can log in; set api.listen", ErrPrecondition)
	}
	role, err := pki.ParseRole(r.GetRole())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	token, err := s.tokens.Create(role, time.Duration(r.GetTtlMs())*time.Millisecond)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPrecondition, err)
	}
	return &apipb.CreateTokenReply{Token: token, CaSha256: s.authority.Fingerprint()}, nil
}

func (s access) Enrol(ctx context.Context, r *apipb.EnrolRequest) (*apipb.EnrolReply, error) {
	if s.authority == nil {
		return nil, fmt.Errorf("%w: no certificate authority", ErrPrecondition)
	}
	// The token goes first: nobody without one gets as far as the parser of requests. A
	// request that cannot be signed has used the token up, which costs its owner one more.
	role, err := s.tokens.Redeem(r.GetToken())
	if err != nil {
		return nil, err
	}
	cert, err := s.authority.Issue(r.GetCsr(), role)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if c, err := x509.ParseCertificate(cert); err == nil {
		auditTarget(ctx, c.Subject.CommonName+" as "+role.String())
	}
	return &apipb.EnrolReply{Certificate: cert, Ca: s.authority.CA(), Role: role.String()}, nil
}

// LoginCommand is what an operator types on a workstation to enrol with a token.
func LoginCommand(address, token, caSHA256 string) string {
	return fmt.Sprintf("ratchetctl login %s --token %s --ca-sha256 %s", address, token, caSHA256)
}
