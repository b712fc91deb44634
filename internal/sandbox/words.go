package sandbox

type stageText struct{ name, about string }

type pipelineText struct {
	name, about string
	stages      []stageText
}

func pipelineTexts() []pipelineText {
	return []pipelineText{
		{"Ventas", "Desde el primer contacto hasta el cierre", []stageText{
			{"Nuevo", "Aún sin responder"},
			{"Calificado", "Con interés y presupuesto"},
			{"Cotización enviada", "Espera respuesta del cliente"},
			{"Negociación", ""},
			{"Ganado", "Compra confirmada"},
			{"Perdido", ""},
		}},
		{"Soporte", "Atención posterior a la venta", []stageText{
			{"Abierto", ""}, {"En revisión", "Con un agente"}, {"Esperando al cliente", ""}, {"Resuelto", ""},
		}},
		{"Postventa \"VIP\"", "Quienes vuelven a comprar", []stageText{
			{"Bienvenida", ""}, {"Año 1", "Primer aniversario"}, {"Renovación", ""}, {"Reactivación", "Sin mensajes hace 90 días"},
		}},
	}
}

// weighted is a word with its share in thousandths.
type weighted struct {
	word  string
	share uint64
}

// The tables are arrays, which nothing can grow or shrink, and nothing writes
// to them.

var platforms = [...]weighted{
	{"whatsapp", 540},
	{"web-whatsapp", 120},
	{"instagram", 120},
	{"webchat", 80},
	{"messenger", 50},
	{"sms", 30},
	{"tiktok", 25},
	{"voice", 20},
	{"playground", 15},
}

var chatStatuses = [...]weighted{
	{"UNATTENDED", 240}, {"ATTENDED", 380}, {"AI_ATTENDED", 200}, {"AI_AWAY", 60}, {"CLOSED", 120},
}

// pick chooses from a table whose shares add up to 1000.
func pick(table []weighted, h uint64) string {
	p := below(h, 1000)
	for _, w := range table {
		if p < w.share {
			return w.word
		}
		p -= w.share
	}
	return table[len(table)-1].word
}

// spelled is a name as it is written and as it stands in an e-mail address.
type spelled struct{ written, plain string }

var firstNames = [...]spelled{
	{"María", "maria"},
	{"José", "jose"},
	{"Camila", "camila"},
	{"Benjamín", "benjamin"},
	{"Sofía", "sofia"},
	{"Matías", "matias"},
	{"Valentina", "valentina"},
	{"Joaquín", "joaquin"},
	{"Íñigo", "inigo"},
	{"Ximena", "ximena"},
	{"Andrés", "andres"},
	{"Begoña", "begona"},
	{"Martín", "martin"},
	{"Francisca", "francisca"},
	{"Tomás", "tomas"},
	{"Antonia", "antonia"},
	{"Raúl", "raul"},
	{"Lucía", "lucia"},
	{"Nicolás", "nicolas"},
	{"Renée", "renee"},
	{"Ana", "ana"},
	{"João", "joao"},
	{"Zoë", "zoe"},
	{"Maximiliano", "maximiliano"},
}

var lastNames = [...]spelled{
	{"González", "gonzalez"},
	{"Muñoz", "munoz"},
	{"Rojas", "rojas"},
	{"Díaz", "diaz"},
	{"Pérez", "perez"},
	{"Soto", "soto"},
	{"Contreras", "contreras"},
	{"Núñez", "nunez"},
	{"López", "lopez"},
	{"Rodríguez", "rodriguez"},
	{"Peña", "pena"},
	{"Fuentes", "fuentes"},
	{"Ibáñez", "ibanez"},
	{"Araya", "araya"},
	{"Güell", "guell"},
	{"Sepúlveda", "sepulveda"},
	{"Vergara", "vergara"},
	{"Cárdenas", "cardenas"},
	{"Etxeberria", "etxeberria"},
	{"D'Angelo", "dangelo"},
	{"Yáñez", "yanez"},
	{"Caupolicán", "caupolican"},
	{"Ñancupil", "nancupil"},
	{"Brito", "brito"},
}

// oddNames are what people really type: other scripts, combining marks,
// quotes, control characters, emoji with joiners, nothing at all.
var oddNames = [...]string{
	"山田 太郎", "김민준", "Олена Шевченко", "محمد الأحمد", "Ελένη Παπαδοπούλου", "नेहा शर्मा", "דוד כהן",
	"Jose\u0301 Nu\u0301n\u0303ez", "Ana \"Anita\" Pérez", "Taller O'Higgins \\ Hnos.", "👩🏽‍💻 Caro ✨", "línea 1\nlínea 2",
	"\tTab", "Cliente 😀", "<b>Ventas</b> & Co", "", "NULL", "0042", "𝒥𝓊𝒶𝓃", " espacios ",
}

var mailDomains = [...]string{"gmail.com", "hotmail.com", "empresa.cl", "outlook.es", "correo.example", "yahoo.com.mx"}

var phonePrefixes = [...]string{"+569", "+569", "+569", "+569", "+521", "+573", "+549", "+346", "+1305", "+5511"}

var leadSources = [...]string{"Instagram", "Referido", "Google Ads", "Feria", "Sitio web", "Campaña Navideña"}

var cities = [...]string{"Santiago", "Ñuñoa", "Valparaíso", "Concepción", "Viña del Mar", "Bogotá", "Ciudad de México", "São Paulo"}

var notes = [...]string{
	"Llamar después de las 18:00", "Pidió \"descuento\" por volumen", "Línea 1\nLínea 2", "Ruta C:\\ventas\\2026", "👍",
	"", "no contactar", "Prefiere correo; teléfono sólo en urgencias",
}

var products = [...]string{"Plan Básico", "Plan Pro", "Plan Empresa", "Asesoría", "Envío exprés"}

var priorities = [...]string{"alta", "media", "baja"}

var closeReasons = [...]string{"precio", "sin respuesta", "competencia"}

func choose(table []string, h uint64) string { return table[below(h, uint64(len(table)))] }
