package lambda

import _ "embed"

// Our runtime interface clients, for packages that come without AWS's own. They are files beside the program.
const (
	pythonClient = "covey_lambda.py"
	nodeClient   = "covey-lambda.cjs"
)

var (
	//go:embed client/covey_lambda.py
	pythonSource string
	//go:embed client/covey-lambda.cjs
	nodeSource string
)
