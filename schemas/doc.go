// Package schemas holds the data contract of the contacts table: its columns,
// how fields are found in a contact, and how discovered fields become columns.
package schemas
