package bqtest

// The tree of a parsed query. Names are as written.

// node is an expression.
type node struct {
	kind  nodeKind
	pos   pos
	text  string // an operator, a function's name in capitals, a literal's text, a date part
	not   bool   // NOT IN, NOT LIKE, IS NOT, NOT BETWEEN
	safe  bool   // SAFE_CAST, SAFE.f()
	path  []string
	kids  []*node
	names []string // of a STRUCT's fields, "" for none
	typ   *typ     // of a cast, or of a typed constructor
	query *query
	call  *call
}

type nodeKind int

const (
	nName nodeKind = iota
	nInt
	nFloat
	nString
	nBytes
	nNull
	nBool
	nTyped // DATE '...': text is the type, kids[0] the literal
	nParam
	nSystem
	nBinary
	nUnary
	nIs // text is NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM
	nBetween
	nIn // kids[0] IN the others, query, or UNNEST(kids[1]) with text "UNNEST"
	nLike
	nCase // operand (nil for none), then pairs, then ELSE (nil for none)
	nCast
	nCall
	nExtract
	nInterval
	nArray
	nStruct
	nTuple // (a, b)
	nSubquery
	nArrayQuery
	nExists
	nIndex // kids[0][kids[1]]; text is OFFSET, ORDINAL, SAFE_OFFSET or SAFE_ORDINAL
	nField // kids[0].text
	nStar  // COUNT(*)
	nDefault
)

// call is what a function call has besides arguments.
type call struct {
	distinct    bool
	ignoreNulls bool
	order       []orderItem
	limit       *node
	over        *window
	having      string // MAX or MIN of HAVING MAX x
	havingArg   *node
	named       map[string]*node
}

type window struct {
	name      string
	partition []*node
	order     []orderItem
	frame     string // as DuckDB takes it, built by the parser of keywords and integers
}

type orderItem struct {
	expr  *node
	desc  bool
	nulls string // FIRST, LAST or ""
}

type query struct {
	pos    pos
	with   []cte
	body   *queryBody
	order  []orderItem
	limit  *node
	offset *node
}

type cte struct {
	name  string
	pos   pos
	query *query
}

// queryBody is a SELECT, a set operation, or a query in brackets.
type queryBody struct {
	pos         pos
	sel         *selectNode
	nested      *query
	op          string // UNION ALL, UNION DISTINCT, INTERSECT DISTINCT, EXCEPT DISTINCT
	left, right *queryBody
}

type selectNode struct {
	pos      pos
	distinct bool
	asStruct bool
	items    []selectItem
	from     *fromNode
	where    *node
	group    []*node
	groupAll bool
	having   *node
	qualify  *node
	windows  map[string]*window
}

type selectItem struct {
	pos     pos
	expr    *node
	alias   string
	star    bool
	of      *node // of t.*
	except  []string
	replace []selectItem
}

// fromNode is a table expression, or a join of two.
type fromNode struct {
	pos         pos
	path        []string
	query       *query
	unnest      *node
	offsetAlias string
	args        []*node // of a table function
	isCall      bool
	alias       string

	join        string // INNER, LEFT, RIGHT, FULL, CROSS
	left, right *fromNode
	on          *node
	using       []string
}

// statements

type stmt interface{ at() pos }

type stmtBase struct {
	pos        pos
	begin, end int // in the script's text
}

func (b stmtBase) at() pos { return b.pos }

type queryStmt struct {
	stmtBase
	query *query
}

type columnDef struct {
	name     string
	pos      pos
	typ      *typ
	required bool
	options  []optionNode
}

type optionNode struct {
	name  string
	value *node
}

type createStmt struct {
	stmtBase
	what        string // TABLE, VIEW, TABLE FUNCTION, SCHEMA
	replace     bool
	temp        bool
	ifNotExists bool
	path        []string
	columns     []columnDef
	hasColumns  bool
	primaryKey  []string
	like        []string
	partition   *node
	cluster     []string
	options     []optionNode
	query       *query
	body        string // text of the query, of views
	params      []columnDef
}

type alterStmt struct {
	stmtBase
	path     []string
	ifExists bool
	actions  []alterAction
}

type alterAction struct {
	what        string // ADD COLUMN, SET OPTIONS, DROP NOT NULL, ADD PRIMARY KEY, DROP PRIMARY KEY, RENAME TO
	ifNotExists bool
	column      columnDef
	options     []optionNode
	names       []string
}

type dropStmt struct {
	stmtBase
	what     string // TABLE, VIEW, TABLE FUNCTION, SCHEMA
	ifExists bool
	cascade  bool
	path     []string
}

type truncateStmt struct {
	stmtBase
	path []string
}

type insertStmt struct {
	stmtBase
	path    []string
	columns []string
	values  [][]*node
	query   *query
}

type assignment struct {
	column string
	pos    pos
	value  *node
}

type updateStmt struct {
	stmtBase
	path  []string
	alias string
	set   []assignment
	from  *fromNode
	where *node
}

type deleteStmt struct {
	stmtBase
	path  []string
	alias string
	where *node
}

type mergeStmt struct {
	stmtBase
	path   []string
	alias  string
	source *fromNode
	on     *node
	whens  []mergeWhen
}

type mergeWhen struct {
	pos     pos
	match   string // MATCHED, NOT MATCHED, NOT MATCHED BY SOURCE
	cond    *node
	action  string // UPDATE, INSERT, DELETE
	set     []assignment
	columns []string
	values  []*node
	row     bool
}

type declareStmt struct {
	stmtBase
	names []string
	typ   *typ
	value *node
}

type setStmt struct {
	stmtBase
	names []string
	value *node
}

type ifStmt struct {
	stmtBase
	conds []*node
	thens [][]stmt // one more than conds where there is an ELSE
}

type blockStmt struct {
	stmtBase
	body    []stmt
	handler []stmt
	handled bool
}

type assertStmt struct {
	stmtBase
	cond    *node
	message string
}

type raiseStmt struct {
	stmtBase
	message *node
}

// txStmt is BEGIN, COMMIT or ROLLBACK TRANSACTION.
type txStmt struct {
	stmtBase
	what string
}

type returnStmt struct{ stmtBase }
