package run

// CutTime is cutTime, for its tests.
var CutTime = cutTime

// JoinEntries is joinEntries, for its tests.
var JoinEntries = joinEntries

// Redacted is redacted, for its tests.
var Redacted = redacted
