// Package transform turns pages of JSON contacts into Arrow record batches,
// straight from the bytes and without a map or struct per contact. It is pure:
// no clock, no files, no network.
package transform
