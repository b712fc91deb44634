// Package state remembers where each pipeline stands: one versioned JSON
// document per pipeline, guarded by a serial, plus the locks that keep two runs
// of one pipeline apart. It is kept in a directory (Open), or in a bucket that
// machines share (OpenGCS), where sealed packages are kept beside it.
//
// # In a directory
//
// A document is replaced by rename, under the kernel's lock of a file beside
// it. A run holds the kernel's lock of its kind for as long as its process
// lives: there is nothing to expire, and nothing left behind.
//
// # In a bucket
//
// No lock of a bucket ends with the process that holds it, and one that ends by
// the clock can be outlived by a process that was suspended: it wakes up, and
// does what it was about to do. So nothing that counts rests on who believes to
// hold what.
//
//   - A document is replaced on condition that the stored one is still the one
//     that was read (its generation). Of two savers one fails and starts over
//     from what stands there. A saver that gets no answer looks: each document
//     names the saves that led to it, so that it knows its own also where others
//     have gone on from there.
//   - Which run extracts is written in the document itself (Claims), and the
//     save that seals a package checks it (Claim.Check). Whoever takes over
//     writes his own claim there. A run that slept meanwhile either finds it, or
//     saves on condition of a document that no longer stands: it cannot seal,
//     and neither queue a package twice nor move a cursor back.
//   - So taking over is safe at any time, and all that is left to decide is who
//     works in vain. A run gives a sign of life every minute, by an object of its
//     own. One of the same local directory that holds the kernel's lock knows
//     that the claimant before it is dead, and takes over at once; one elsewhere
//     does so where the last sign is five minutes old by the bucket's clock, and
//     is told who holds the claim and until when otherwise.
//   - A run's sealed package is in the bucket before the document names it, under
//     the name of the claim (Claim.Keep). What no queue names, and no claim in
//     the document can bring into one, never will be named, as a claim that is
//     over does not come back: the next run removes it (Claim.Sweep).
//
// Commits are not locked here: each destination decides by itself which of two
// commits takes effect, and the position that state keeps for it only grows.
//
// What is not sealed yet and the quarantine are on the local disk alone.
package state
