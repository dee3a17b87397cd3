// What a blank does while it waits: it plays the start and the calls of a function that answers nobody, so that the code
// which a real start waits for is loaded and compiled.
'use strict';

module.exports = { rehearse() {} };
