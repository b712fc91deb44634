package bqtest

import (
	"context"
	"database/sql"
	"net/http"
	"time"
)

type (
	job     struct{}
	upload  struct{}
	session struct{}
	view    struct{}
	sizes   struct{}
	pos     struct{}
)

func (pos) String() string                             { return "" }
func engineMacros() []string                           { return nil }
func registerFunctions(context.Context, *sql.DB) error { return nil }
func (s *Server) routes() http.Handler                 { return http.NotFoundHandler() }
func parseStaleness(string) (time.Duration, error)     { return 0, nil }
