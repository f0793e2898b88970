// Package sign makes and checks the signatures that UEFI Secure Boot asks for.
//
// The format is Authenticode: a PKCS #7 SignedData over the SHA-256 digest of the image, in the
// PE file's certificate table. Only two attributes are signed, content type and digest; there is
// no signing time, so the same image and key always give the same bytes, and a signed image can
// be compared between builders as well as an unsigned one. RSA-2048 with PKCS #1 v1.5 is what
// every firmware accepts.
//
// Where keys come from is the business of image/keys.
//
// Sources: Microsoft, "Windows Authenticode Portable Executable Signature Format"; RFC 2315; UEFI
// specification 2.10, 32.2.4 and 32.5.3.3.
package sign
