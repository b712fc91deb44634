package config

// zones are the timezones that "did you mean" knows. Any IANA name is valid:
// Go keeps no list of them to search.
func zones() []string {
	return []string{
		"UTC", "America/Santiago", "America/Punta_Arenas", "Pacific/Easter",
		"America/Argentina/Buenos_Aires", "America/Asuncion", "America/Bogota", "America/Caracas",
		"America/Costa_Rica", "America/El_Salvador", "America/Guatemala", "America/Guayaquil",
		"America/Havana", "America/La_Paz", "America/Lima", "America/Managua", "America/Mexico_City",
		"America/Monterrey", "America/Montevideo", "America/Panama", "America/Puerto_Rico",
		"America/Santo_Domingo", "America/Sao_Paulo", "America/Tegucigalpa", "America/Tijuana",
		"America/Chicago", "America/Denver", "America/Los_Angeles", "America/New_York", "America/Phoenix", "America/Toronto",
		"Europe/Amsterdam", "Europe/Berlin", "Europe/Lisbon", "Europe/London", "Europe/Madrid", "Europe/Paris", "Europe/Rome",
		"Atlantic/Canary", "Asia/Dubai", "Asia/Jerusalem", "Asia/Kolkata", "Asia/Singapore", "Asia/Tokyo", "Australia/Sydney",
	}
}
