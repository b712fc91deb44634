package bqtest

import "context"

// settle applies what change data capture has due for a table.
func (s *Server) settle(context.Context, tableRef) error { return nil }

// hasCDC says whether rows of a table arrive by change data capture.
func (s *Server) hasCDC(tableRef) bool { return false }
