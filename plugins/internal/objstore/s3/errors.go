package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// classify gives an error of the service or of the way to it its place in the contract of
// objstore. What is not known to be permanent is taken for transient; what the service has against a request, for what a person
// or time can put right.
func classify(err error) error {
	r := minio.ToErrorResponse(err)
	var cert x509.UnknownAuthorityError
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, objstore.ErrUnavailable):
		return err
	case r.Code == minio.NoSuchKey:
		return fmt.Errorf("%w (%w)", objstore.ErrNotFound, err)
	case r.StatusCode == http.StatusNotImplemented: // of all we send, only conditions are not everywhere
		return fmt.Errorf("%w: %w", objstore.ErrNoConditional, err)
	case r.StatusCode == http.StatusConflict, r.StatusCode == http.StatusTooManyRequests, r.StatusCode == http.StatusRequestTimeout, r.StatusCode >= 500:
		return fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	case damaged[r.Code]:
		return fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	case r.StatusCode == http.StatusPreconditionFailed: // of a call without a condition
		return err
	case r.StatusCode >= 400:
		if hint := hints[r.Code]; hint != "" {
			return fmt.Errorf("%w: %s: %w", objstore.ErrRefused, hint, err)
		}
		return fmt.Errorf("%w: %w", objstore.ErrRefused, err)
	case errors.As(err, &cert):
		return fmt.Errorf("%w: its certificate is not trusted, check the endpoint and the box's clock: %w", objstore.ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", objstore.ErrUnavailable, err)
	}
}

// damaged holds answers that blame the request for what happened to it on the way.
var damaged = map[string]bool{
	"RequestTimeout": true, "IncompleteBody": true, "BadDigest": true,
	"XAmzContentSHA256Mismatch": true, "BadRequest": true,
}

// hints say what a person has to do about errors that only a person can do something about.
var hints = map[string]string{
	"AccessDenied":          "the key may not do this, give it read, write, list and delete on the bucket",
	"InvalidAccessKeyId":    "the service does not know access_key, correct it",
	"SignatureDoesNotMatch": "secret_key is not the one of access_key, correct it",
	"RequestTimeTooSkewed":  "the box's clock differs too much from the service's, check time synchronisation",
	"NoSuchBucket":          "the bucket is not there, create it or correct the name",
	"QuotaExceeded":         "the quota of the bucket or of its owner is used up, raise it", // Ceph

	"XMinioAdminBucketQuotaExceeded": "the quota of the bucket is used up, raise it",
}
