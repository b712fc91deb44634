//go:build !unix

package cli

func prepareProcess() {}
