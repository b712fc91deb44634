package run

import "github.com/sluice-etl/sluice/schemas"

// CutTime is cutTime, for its tests.
var CutTime = cutTime

// JoinEntries is joinEntries, for its tests.
var JoinEntries = joinEntries

// JoinInfo is infoRules.join by the built-in contract, for its tests.
func JoinInfo(listed, served []byte) ([]byte, error) {
	return newInfoRules(schemas.Default()).join(listed, served)
}

// CheckKeys is checkKeys, for its tests.
var CheckKeys = checkKeys

// Redacted is redacted, for its tests.
var Redacted = redacted
