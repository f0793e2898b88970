package verdict

// VaultShut is the judgement on a box whose counter is in order and whose STATE does not open. It is not
// released without STATE: it would come up with the accounts of a new box, for whoever made STATE
// unreadable. The devices' reasons stay what they are.
func VaultShut(why error) Judgement {
	return *isolated("vault-shut", nextAccept, "the box's own data stay sealed: %v", why)
}
