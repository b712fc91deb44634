// Package crashtest is for tests alone: what stops a process at a named step,
// with a signal or by cutting the power, and what judges afterwards whether
// anything was lost, stands there twice or was left lying about.
package crashtest
