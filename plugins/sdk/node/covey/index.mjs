// The ES module is the CommonJS one, so that a function that mixes both has one SDK.
import { createRequire } from 'node:module';

const covey = createRequire(import.meta.url)('./index.js');

export const { Context, CoveyError, current, invoke, log, testContext, withContext } = covey;
export default covey;
