// Package transform turns pages of JSON contacts into Arrow record batches,
// straight from the bytes and without a map or struct per contact. It is pure:
// no clock, no files, no network.
//
// A page is read once, strictly (the language of jsontext), and each value is
// appended to the memory of its field's column; null and absent fields cost
// nothing. What cannot be decided from one page, names and types of fields
// that the contract does not declare, is decided by Seal through the registry.
//
// What becomes of the unusual:
//
//   - A record without usable id, created_at, updated_at or another required
//     column, or with a key twice in one of the objects that are taken apart
//     (contact, ticket, object of custom fields), is a Reject. Inside values
//     kept as JSON text a key may stand twice.
//   - A value that a column does not hold stands as text in "<column>__text";
//     a discovered string column holds any scalar as its text. A declared column
//     takes of a string what would be its value without the quotes ("85"), and
//     nothing that has to be guessed: an empty string does not fit a number.
//   - A custom field given different values by several places of one contact
//     takes that of the first place in the contract's order, and within a list
//     the first; the others stand in "<column>__text", a line each. For the
//     contract's type_conflicts they are values that do not fit: there is no
//     other place for them.
//   - A place of custom fields that is neither an object nor a list of
//     {key, value} objects is an ordinary field with its own name. A list
//     whose elements have further members is taken apart and kept as JSON.
//
// What the contract does not want is checked as JSON and stored nowhere. With
// new_columns or type_conflicts: discard, what the table has no place for is
// left out and counted; with freeze, Seal fails and names the first contact, in
// order of arrival, that has such a value. type_conflicts alone decides about
// "<column>__text", also where new_columns is freeze. A field that went to the
// overflow because the table was full is not new under freeze: it stays there.
//
// What the contract hashes, masks or drops leaves this package as that alone,
// in columns, "<column>__text", the overflow and _sluice_hash; only the filters
// and the walk see the values themselves. Under hash and mask every value is
// text: numbers as served, objects and arrays in one spelling. What a contact's
// own column of a place of custom fields, or of the ticket, holds (a list that
// is kept as JSON too, another shape than usual) shows no more than the fields
// in it may.
package transform
