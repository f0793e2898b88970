package counter

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// session is an authorisation session salted to the storage root key (part 1, 19.6 and 21): only the
// owner of that key can answer in it. go-tpm's own sessions fix for their whole life whether a
// parameter is encrypted, whose value is proven and whether the session ends; here each use says so.
// One HMAC session and one policy session then serve a whole boot, a quarter of the commands less.
type session struct {
	handle   tpm2.TPMHandle
	key      []byte
	caller   tpm2.TPM2BNonce // of the last command
	nonceTPM tpm2.TPM2BNonce // of the last response
	ended    bool            // by the TPM, after a last use
}

// nonceSize is the least that the TCG asks for: half of the session's hash.
const nonceSize = 16

// The session's cipher, AES-128 in CFB mode.
const (
	cipherKey = 16
	cipherIV  = aes.BlockSize
)

// openSession starts a session of a kind (HMAC or policy) whose salt only srk can decrypt.
func openSession(t transport.TPM, kind tpm2.TPMSE, srk *tpm2.TPMTPublic) (*session, error) {
	public, err := tpm2.ImportEncapsulationKey(srk)
	if err != nil {
		return nil, err
	}
	salt, encrypted, err := tpm2.CreateEncryptedSalt(rand.Reader, public)
	if err != nil {
		return nil, err
	}
	s := &session{caller: tpm2.TPM2BNonce{Buffer: make([]byte, nonceSize)}}
	if err := s.NewNonceCaller(); err != nil {
		return nil, err
	}
	r, err := tpm2.StartAuthSession{
		TPMKey: HandleSRK, Bind: tpm2.TPMRHNull, NonceCaller: s.caller, SessionType: kind, AuthHash: tpm2.TPMAlgSHA256,
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: encrypted},
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(8*cipherKey)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	s.handle, s.nonceTPM = tpm2.TPMHandle(r.SessionHandle.HandleValue()), r.NonceTPM
	s.key = tpm2.KDFa(crypto.SHA256, salt, "ATH", s.nonceTPM.Buffer, s.caller.Buffer, 8*sha256.Size)
	return s, nil
}

// flush ends the session unless its last use did.
func (s *session) flush(t transport.TPM) error {
	if s == nil || s.ended {
		return nil
	}
	s.ended = true
	_, err := tpm2.FlushContext{FlushHandle: s.handle}.Execute(t)
	return err
}

// use is one command's use of a session. The zero options authorise with an empty value in the open.
type use struct {
	*session
	auth   []byte // proven by the HMAC; no byte of it is zero
	hide   bool   // encrypt the command's first parameter
	reveal bool   // the response's first parameter is encrypted
	last   bool   // the TPM ends the session after it
}

var _ tpm2.Session = use{}

// Init implements tpm2.Session: the session is open already.
func (u use) Init(transport.TPM) error { return nil }

// CleanupFailure implements tpm2.Session: a command that fails leaves the session as it was.
func (u use) CleanupFailure(transport.TPM) error { return nil }

// NonceTPM implements tpm2.Session.
func (u use) NonceTPM() tpm2.TPM2BNonce { return u.nonceTPM }

// Handle implements tpm2.Session.
func (u use) Handle() tpm2.TPMHandle { return u.handle }

// IsEncryption implements tpm2.Session: it is about the response.
func (u use) IsEncryption() bool { return u.reveal }

// IsDecryption implements tpm2.Session: it is about the command.
func (u use) IsDecryption() bool { return u.hide }

// NewNonceCaller implements tpm2.Session.
func (s *session) NewNonceCaller() error {
	// The buffer must be new: the one before may still be in a command that go-tpm holds.
	s.caller.Buffer = make([]byte, nonceSize)
	_, err := rand.Read(s.caller.Buffer)
	return err
}

var errEnded = errors.New("the session has ended")

// Authorize implements tpm2.Session with the HMAC over the command (part 1, 19.6.5).
func (u use) Authorize(cc tpm2.TPMCC, params, nonces []byte, names []tpm2.TPM2BName, _ int) (*tpm2.TPMSAuthCommand, error) {
	if u.ended {
		return nil, errEnded
	}
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	for _, n := range names {
		h.Write(n.Buffer)
	}
	h.Write(params)
	a := tpm2.TPMASession{ContinueSession: !u.last, Decrypt: u.hide, Encrypt: u.reveal}
	mac := u.mac(h.Sum(nil), u.caller, u.nonceTPM, nonces, a)
	return &tpm2.TPMSAuthCommand{Handle: u.handle, Nonce: u.caller, Attributes: a, Authorization: tpm2.TPM2BData{Buffer: mac}}, nil
}

// Validate implements tpm2.Session: the response's HMAC must be right, or nothing in it is believed.
func (u use) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, params []byte, _ []tpm2.TPM2BName, _ int, r *tpm2.TPMSAuthResponse) error {
	u.nonceTPM, u.ended = r.Nonce, !r.Attributes.ContinueSession
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(rc)))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	h.Write(params)
	if !hmac.Equal(u.mac(h.Sum(nil), r.Nonce, u.caller, nil, r.Attributes), r.Authorization.Buffer) {
		return errors.New("the response's HMAC is wrong")
	}
	return nil
}

func (u use) mac(hash []byte, newer, older tpm2.TPM2BNonce, nonces []byte, a tpm2.TPMASession) []byte {
	m := hmac.New(sha256.New, u.secret())
	for _, part := range [][]byte{hash, newer.Buffer, older.Buffer, nonces, tpm2.Marshal(a)} {
		m.Write(part)
	}
	return m.Sum(nil)
}

// secret is what both sides know: the session's key and the value of the object that is used.
func (u use) secret() []byte { return append(u.key[:len(u.key):len(u.key)], u.auth...) }

// Encrypt implements tpm2.Session.
func (u use) Encrypt(parameter []byte) error {
	if u.hide {
		return u.cfb(parameter, u.caller, u.nonceTPM, cipher.NewCFBEncrypter) //nolint:staticcheck // the TPM's mode, with an HMAC over it
	}
	return nil
}

// Decrypt implements tpm2.Session.
func (u use) Decrypt(parameter []byte) error {
	if u.reveal {
		return u.cfb(parameter, u.nonceTPM, u.caller, cipher.NewCFBDecrypter) //nolint:staticcheck // the TPM's mode, with an HMAC over it
	}
	return nil
}

// cfb is parameter encryption (part 1, 21.3); key and start value depend on both nonces.
func (u use) cfb(parameter []byte, newer, older tpm2.TPM2BNonce, mode func(cipher.Block, []byte) cipher.Stream) error {
	k := tpm2.KDFa(crypto.SHA256, u.secret(), "CFB", newer.Buffer, older.Buffer, 8*(cipherKey+cipherIV))
	block, err := aes.NewCipher(k[:cipherKey])
	if err != nil {
		return err
	}
	mode(block, k[cipherKey:]).XORKeyStream(parameter, parameter)
	return nil
}
