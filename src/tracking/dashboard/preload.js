// Loaded into Omniboard by `node -r`: makes 2.16.1 fit for one user on one machine.
'use strict';

const fs = require('fs');
const http = require('http');
const net = require('net');
const path = require('path');

const HOST = '127.0.0.1';
const web = path.join(path.dirname(process.argv[1]), '..', 'web', 'build');
const mongoose = require(require.resolve('mongoose', { paths: [path.dirname(process.argv[1])] }));

// It listens on every interface and has no switch for that.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return /^\d+$/.test(String(port)) ? listen.call(this, port, HOST, ...rest) : listen.call(this, port, ...rest);
};

// It answers and allows everything to pages of any origin: a web site open in the same browser could read
// and delete runs. The Host header is checked too, for names that a site lets resolve to this machine.
function isForeign(request) {
  const own = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/;
  const host = request.headers.host || '';
  const origin = request.headers.origin;
  return !own.test(host) || (origin !== undefined && origin !== `http://${host}`);
}

// Which columns the table shows lives in the browser; the first visit gets those of $PHALANX_BOARD_TABLE.
function page() {
  const table = fs.readFileSync(process.env.PHALANX_BOARD_TABLE, 'utf8').replace(/</g, '\\u003c');
  const script = `(function (key, table) {
    if (!localStorage.getItem(key)) localStorage.setItem(key, JSON.stringify(table));
  })('default|RunsTable|1', ${table});`;
  const html = fs.readFileSync(path.join(web, 'index.html'), 'utf8');
  return html.replace('<div id="root">', () => `<script>${script}</script><div id="root">`);
}

// Who started this holds the other end of its input. When that is gone, by a kill too, nobody could end it.
process.stdin.on('close', () => process.exit(0)).resume();

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, response, ...rest) {
  if (event !== 'request') return emit.call(this, event, request, response, ...rest);
  // A page of another site could show it in a frame and have its buttons clicked unseen.
  response.setHeader('X-Frame-Options', 'DENY');
  response.setHeader('Content-Security-Policy', "frame-ancestors 'none'");
  if (isForeign(request)) {
    response.writeHead(403).end('This board answers pages of its own only.\n');
    return true;
  }
  const wantsPage = request.method === 'GET' && (request.headers.accept || '').includes('text/html');
  if (wantsPage && request.url.startsWith('/sacred') && !request.url.includes('/api/')) {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-cache' });
    response.end(page());
    return true;
  }
  const setHeader = response.setHeader;
  response.setHeader = function (name, value) {
    return /^access-control-allow/i.test(name) ? this : setHeader.call(this, name, value);
  };
  return emit.call(this, event, request, response, ...rest);
};

// Metric columns join runs with metrics in a way no index serves. Keep the wanted metrics only, and join
// them by _id.
function withIndex(pipeline) {
  const at = pipeline.findIndex((stage) => stage.$unwind && stage.$unwind.path === '$info.metrics');
  const lookup = at < 0 ? undefined : (pipeline[at + 1] || {}).$lookup;
  const condition = (((lookup || {}).pipeline || [])[0] || {}).$match;
  const names = (((((condition || {}).$expr || {}).$and || [])[1] || {}).$in || [])[1];
  if (!Array.isArray(names)) return pipeline;
  const wanted = { $filter: { input: { $ifNull: ['$info.metrics', []] }, as: 'm', cond: { $in: ['$$m.name', names] } } };
  return [
    ...pipeline.slice(0, at),
    { $addFields: { 'info.metrics': wanted } },
    pipeline[at],
    { $addFields: { metric_id: { $toObjectId: '$info.metrics.id' } } },
    { $lookup: { from: lookup.from, localField: 'metric_id', foreignField: '_id', as: lookup.as } },
    { $project: { metric_id: 0, [`${lookup.as}.steps`]: 0, [`${lookup.as}.timestamps`]: 0 } },
    ...pipeline.slice(at + 2),
  ];
}
const aggregate = mongoose.Model.aggregate;
mongoose.Model.aggregate = function (pipeline, ...rest) {
  return aggregate.call(this, Array.isArray(pipeline) ? withIndex(pipeline) : pipeline, ...rest);
};

// Its own settings give up for good 30 s after the database went away, and end the process when it is
// absent at the start. The unified topology reconnects by itself.
const createConnection = mongoose.createConnection;
mongoose.createConnection = function (uri, options, ...rest) {
  const { auto_reconnect, reconnectTries, reconnectInterval, bufferMaxEntries, ...kept } = options || {};
  const settings = { ...kept, useUnifiedTopology: true, serverSelectionTimeoutMS: 5000 };
  const connection = createConnection.call(this, uri, settings, ...rest);
  if (connection.catch) connection.catch(() => {});
  return connection;
};
