// The SDK for Covey functions in Node.js. index.d.ts documents what is exported.
'use strict';

const { Context, current, testContext, withContext } = require('./context.js');
const { CoveyError } = require('./errors.js');
const { invoke } = require('./invoke.js');
const { log } = require('./log.js');

module.exports = { Context, CoveyError, current, invoke, log, testContext, withContext };
