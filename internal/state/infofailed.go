package state

import "time"

// InfoFailed is a contact that the info endpoint gave no answer for, however
// often it was asked: the tables have it as the list does, and a later run asks
// for it again.
type InfoFailed struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"` // by which the list finds it again
	FailedAt  time.Time `json:"failed_at"`  // when it was asked for last
}
