// An AWS Lambda function as people have it: behind a function URL that streams, it renders a page and sends each part
// as soon as it is there.
//
// Zipped with this file at its top it is a package for Lambda's runtimes nodejs18.x and newer, and for Covey's
// runtime lambda. The handler is index.handler.

import { setTimeout as wait } from 'node:timers/promises';

const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

// A slow source of data: in a real function a database or another service.
async function* sightings(count) {
  const birds = ['quail', 'wren', 'heron', 'kestrel'];
  for (let i = 0; i < count; i++) {
    await wait(1);
    yield { bird: birds[i % birds.length], number: i + 1 };
  }
}

export const handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
  const query = event.queryStringParameters ?? {};
  const count = Number(query.count ?? 3);
  const wrong = !Number.isInteger(count) || count < 0 || count > 1000;
  const page = awslambda.HttpResponseStream.from(responseStream, {
    statusCode: wrong ? 400 : 200,
    headers: { 'content-type': 'text/html; charset=utf-8', 'x-request': context.awsRequestId },
  });
  if (wrong) {
    console.warn('count refused', query.count);
    page.end('<p>count is a number up to 1000</p>\n');
    return;
  }
  page.write(`<h1>${escape(query.title ?? 'Sightings')}</h1>\n<ol>\n`);
  for await (const { bird, number } of sightings(count)) {
    page.write(`<li value="${number}">${escape(bird)}</li>\n`);
  }
  page.end('</ol>\n');
});
