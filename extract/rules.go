package extract

// rule names one rule of the walk. The shipped walk keeps them all; the
// simulation takes them out one by one to see that each is missed.
type rule uint32

const (
	ruleMarkBehind  rule = 1 << iota // the mark stays a millisecond behind the last printed time
	ruleOrder                        // a page out of order is refused
	ruleDrain                        // a tie that a page cannot hold is paged by offset
	ruleAnchor                       // a page at an offset counts only when anchored
	ruleConfirm                      // a block that took several pages is read a second time
	ruleStatistical                  // a changed order means repeated passes
	ruleEndProof                     // a short page does not end the walk
	ruleProbe                        // nor does an anchored page with nothing after the anchor, alone
	ruleFinality                     // the cursor stays the lookback behind the source's clock
	ruleContiguous                   // and does not cross what was not final when it was read
	ruleElapsed                      // a Date is taken back to when the rows were read
	ruleCached                       // a cache's Date is not believed
	ruleFuture                       // a printed time in the future does not make a cursor
	ruleStop                         // the walk ends at the run's start

	// Rules of a scan.
	ruleOneStop    // all windows end at the start of the scan
	ruleBorderHeld // a border's own millisecond belongs to the window before it
	ruleBorderOnce // and to no other
	ruleRemainder  // both halves of a window that is split are read
	ruleUnion      // the windows read have to fill what was to be read
	ruleEarliest   // the earliest reading of all counts for the catch-up
	ruleFinalOnly  // what is not final is not covered

	// Rules of a reading by last message.
	ruleTop      // the newest are read again at the end
	ruleTopDepth // down to the lookback before the reading began
	ruleTopAgain // and again, until they fit one page
)

// keeps reports whether the walk keeps rule x.
func (r *runner) keeps(x rule) bool { return r.w.without&x == 0 }
