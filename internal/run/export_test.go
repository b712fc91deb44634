package run

// CutTime is cutTime, for its tests.
var CutTime = cutTime
