// The viewer: one picture at a time is asked for, and the next one when it has come; nothing is
// kept of those that were shown, so that the page does not grow with the clip.
const $ = (name) => element.querySelector(name);
const image = $('.cv-image'), stage = $('.cv-stage'), scrub = $('.cv-scrub'), strips = $('.cv-strips');
const app = window.carvid = window.carvid || {};
Object.assign(app, {
  view: null, frame: 0, source: 'run', names: true, hidden: new Set(), theta: app.theta ?? 0.5,
  tool: '', pending: [], playing: false, shown: -1, moved: false,
});
const bounds = props.bounds || {};
$('.cv-bounds').textContent = bounds.text || '';

const act = app.act = (action, more) => trigger('act', Object.assign({action}, more || {}));
app.key = (thing) => thing.label + ' ' + thing.text;  // of several of one kind each has a label
const frames = () => (app.view && app.view.clip ? app.view.clip.frames : 0);
const base = () => new URL('carvid/' + app.view.token + '/', document.baseURI).href;

// Pictures

let wanted = null, loading = false;
function address() {
  const view = app.view, side = Math.min(1280, Math.ceil(stage.clientWidth * (devicePixelRatio || 1)));
  const quick = app.source === 'quick' && view.quick;
  const places = view.things.map((thing, k) => k).filter((k) => !app.hidden.has(app.key(view.things[k])));
  const query = new URLSearchParams({
    source: app.source, show: places.join(','), side: Math.ceil(side / 160) * 160,
    names: app.names ? 1 : 0, v: view.version + '.' + view.clip.id,
  });
  if (quick) query.set('theta', app.theta);
  return base() + 'frame/' + app.frame + '.jpg?' + query;
}
function show() {
  if (!frames()) return;
  wanted = {url: address(), frame: app.frame};
  scrub.value = app.frame;
  const clip = app.view.clip, seconds = app.frame / clip.rate + clip.start_s;
  $('.cv-time').textContent = Math.floor(seconds / 60) + ':' + (seconds % 60).toFixed(2).padStart(5, '0');
  $('.cv-count').textContent = 'frame ' + app.frame + ' of ' + frames();
  drawCursor();
  pump();
}
async function pump() {
  if (loading) return;
  loading = true;
  while (wanted) {
    const now = wanted;
    wanted = null;
    try {
      const answer = await fetch(now.url);
      if (!answer.ok) throw new Error(await answer.text());
      const blob = await answer.blob(), url = URL.createObjectURL(blob), old = image.src;
      image.src = url;
      await image.decode().catch(() => null);
      if (old.startsWith('blob:')) URL.revokeObjectURL(old);
      app.shown = now.frame;
      app.pictures = (app.pictures || 0) + 1;
      element.dataset.frame = now.frame;
      marks();
    } catch (error) {
      say('error', error.message || 'the server does not answer; is it still running?');
      if (app.playing) play(false);
    }
  }
  loading = false;
}
function go(frame) {
  app.following = false;
  app.frame = Math.max(0, Math.min(frames() - 1, Math.round(frame)));
  show();
}

// Playing: by the clock, so that it is as fast as the clip, whatever is left out

let began = 0, from = 0;
function play(on) {
  app.playing = on && frames() > 1;
  element.firstElementChild.dataset.playing = app.playing ? 1 : 0;
  if (!app.playing) return;
  if (app.frame >= frames() - 1) app.frame = 0;
  began = performance.now();
  from = app.frame;
  requestAnimationFrame(tick);
}
function tick() {
  if (!app.playing) return;
  const next = from + Math.floor((performance.now() - began) / 1000 * app.view.clip.rate);
  if (next >= frames() - 1) {
    go(frames() - 1);
    play(false);
    return;
  }
  if (next !== app.frame && !loading) go(next);
  requestAnimationFrame(tick);
}

// What was found along time

const ROW = 9;
function spansOf(thing, k) {
  const view = app.view;
  if (app.source === 'quick' && view.quick && thing.row !== null) {
    const keys = view.quick.key_frames, scores = view.quick.scores[thing.row], spans = [];
    keys.forEach((key, at) => {
      if (scores[at] > app.theta) spans.push([key, at + 1 < keys.length ? keys[at + 1] : frames()]);
    });
    return spans;
  }
  return view.run && thing.label && app.source !== 'quick' ? view.run.spans[thing.label - 1] : [];
}
let strip = null;
function drawStrips() {
  const view = app.view, things = view ? view.things : [];
  const width = strips.clientWidth || stage.clientWidth, ratio = devicePixelRatio || 1;
  const height = frames() ? Math.max(1, things.length) * ROW + 6 : 0;
  strips.style.height = height + 'px';
  strips.width = Math.max(1, width * ratio);
  strips.height = Math.max(1, height * ratio);
  strip = document.createElement('canvas');
  strip.width = strips.width;
  strip.height = strips.height;
  const pen = strip.getContext('2d');
  pen.scale(ratio, ratio);
  things.forEach((thing, k) => {
    pen.fillStyle = 'rgba(128,128,128,0.18)';
    pen.fillRect(0, k * ROW + 3, width, ROW - 3);
    pen.globalAlpha = app.hidden.has(app.key(thing)) ? 0.25 : 1;
    pen.fillStyle = thing.color;
    for (const [first, after] of spansOf(thing, k)) {
      const x = first / frames() * width;
      pen.fillRect(x, k * ROW + 3, Math.max(1, after / frames() * width - x), ROW - 3);
    }
    pen.globalAlpha = 1;
  });
  drawCursor();
}
function drawCursor() {
  if (!strip) return;
  const pen = strips.getContext('2d'), ratio = devicePixelRatio || 1;
  pen.clearRect(0, 0, strips.width, strips.height);
  pen.drawImage(strip, 0, 0);
  const x = (app.frame + 0.5) / Math.max(1, frames()) * strips.width;
  for (const each of [...(app.view.corrections || []), ...app.pending]) {
    pen.fillStyle = 'rgba(255,255,255,0.85)';
    pen.fillRect((each.frame + 0.5) / frames() * strips.width - ratio, 0, 2 * ratio, 3 * ratio);
  }
  pen.fillStyle = '#fff';
  pen.fillRect(x - ratio, 0, 2 * ratio, strips.height);
}

// Corrections

const places = $('.cv-marks');
function marks() {
  const all = [...(app.view.corrections || []).map((each) => [each, false]),
               ...app.pending.map((each) => [each, true])];
  places.replaceChildren();
  for (const [each, pending] of all) {
    if (each.frame !== app.shown || !each.point) continue;
    const mark = document.createElement('span');
    mark.className = 'cv-mark ' + (each.wanted ? 'cv-yes' : 'cv-no') + (pending ? ' cv-new' : '');
    mark.textContent = each.wanted ? '✓' : '✕';
    mark.style.left = (each.point[0] + 0.5) / app.view.clip.width * 100 + '%';
    mark.style.top = (each.point[1] + 0.5) / app.view.clip.height * 100 + '%';
    places.append(mark);
  }
}
function click(event) {
  if (!app.tool || !app.view || !app.view.run) return;
  const box = image.getBoundingClientRect(), clip = app.view.clip;
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  const label = Number($('.cv-which').value);
  if (x < 0 || y < 0 || x >= 1 || y >= 1 || !label) return;
  app.pending.push({
    frame: app.shown, label, wanted: app.tool === 'yes',
    point: [Math.floor(x * clip.width), Math.floor(y * clip.height)],
  });
  tools();
  marks();
  drawCursor();
}
function undo() {
  if (app.pending.length) app.pending.pop();
  else if (app.view.corrections.length) act('undo');
  tools();
  marks();
  drawCursor();
}
function tools() {
  const view = app.view, found = view && view.run ? view.things.filter((each) => each.label) : [];
  $('.cv-tools').hidden = !found.length;
  const which = $('.cv-which'), before = which.value;
  which.replaceChildren(...found.map((each) => {
    const option = document.createElement('option');
    option.value = each.label;
    option.textContent = each.name;
    return option;
  }));
  if (found.some((each) => String(each.label) === before)) which.value = before;
  which.hidden = found.length < 2;
  const all = view ? view.corrections.length : 0, news = app.pending.length;
  $('.cv-pending').textContent = news ? news + ' new' : (all ? all + ' made' : '');
  element.querySelector('[data-do=correct]').disabled = !news || !!(view && view.job);
  element.querySelector('[data-do=undo]').disabled = !(news || all) || !!(view && view.job);
  for (const each of element.querySelectorAll('[data-tool]')) {
    each.classList.toggle('cv-on', each.dataset.tool === app.tool);
  }
  stage.dataset.tool = app.tool;
}

// What the server says

function say(kind, text) {
  const place = $('.cv-message');
  place.hidden = !text;
  place.textContent = text || '';
  place.dataset.kind = kind;
}
function progress(job) {
  const place = $('.cv-progress');
  place.hidden = !job;
  document.body.classList.toggle('cv-busy', !!job);
  if (!job) return;
  const done = job.total && job.state === 'running' ? job.frames / job.total : 0;
  $('.cv-fill').style.width = (100 * done).toFixed(1) + '%';
  $('.cv-track').classList.toggle('cv-unknown', job.state === 'running' && !job.frames);
  let text = job.name;
  if (job.upload !== undefined) {
    $('.cv-fill').style.width = (100 * job.upload).toFixed(1) + '%';
    text = job.name;
  } else if (job.cancelling) text = 'stopping after this frame …';
  else if (job.state === 'waiting') text = 'waiting for ' + (job.ahead || 1) + ' other' + (job.ahead > 1 ? 's' : '') + ': ' + job.name;
  else if (job.finishing) text += ': finishing';
  else if (job.frames) text += ': frame ' + job.frames + (job.total ? ' of ' + job.total : '');
  else if (job.seconds > 1) text += ': getting ready';
  if (job.frames > 3 && job.total && !job.finishing && !job.cancelling) {
    const left = job.seconds / job.frames * (job.total - job.frames);
    text += left > 90 ? ', ' + Math.round(left / 60) + ' min left' : ', ' + Math.max(1, Math.round(left)) + ' s left';
  }
  $('.cv-doing').textContent = text;
}
let timer = null;
function update(view) {
  if (!view || !view.token) return;
  const before = app.view, opened = view.clip && (!before || !before.clip || before.clip.id !== view.clip.id);
  const found = view.run && (!before || !before.run || (before.job && !view.job && before.version !== view.version));
  app.view = view;
  try { sessionStorage.setItem('carvid', view.token); } catch (error) { /* a private window */ }
  const root = element.firstElementChild;
  root.dataset.empty = view.clip ? 0 : 1;
  document.body.classList.toggle('cv-has-clip', !!view.clip);
  document.body.classList.toggle('cv-has-run', !!view.run);
  document.body.classList.toggle('cv-prepared', !!view.prepared);
  if (opened) {
    app.frame = 0;
    app.pending = [];
    app.hidden.clear();
    app.source = 'run';
    app.theta = view.clip.theta;
    app.moved = false;
    trigger('opened', {});
    play(false);
    $('.cv-frame').style.setProperty('--cv-aspect', view.clip.aspect);
    scrub.max = view.clip.frames - 1;
  }
  if (before && before.job && before.job.name.startsWith('correcting') && !view.job && view.run
      && view.corrections.length !== before.corrections.length) app.pending = [];
  if (view.quick && (!before || !before.quick || (before.job && !view.job && before.job.name === 'asking'))) app.source = 'quick';
  else if (found) app.source = 'run';
  if (app.source === 'quick' && !view.quick) app.source = 'run';
  for (const each of element.querySelectorAll('[data-source]')) {
    const masks = view.run || view.going;
    each.disabled = each.dataset.source === 'quick' ? !view.quick : each.dataset.source === 'run' ? !masks : false;
    each.classList.toggle('cv-on', each.dataset.source === (masks || view.quick ? app.source : 'plain'));
  }
  progress(view.job);
  follow(view, before);
  if (view.message) say(view.message[0], view.message[1]);
  else if (!before || before.version !== view.version) say('', '');
  tools();
  drawStrips();
  tag();
  if (view.clip && (!before || before.version !== view.version || opened)) show();
  window.dispatchEvent(new CustomEvent('carvid-view'));
  clearTimeout(timer);
  if (view.job) timer = setTimeout(poll, 350);
}
// While a run goes on the newest masks are shown, until somebody goes elsewhere.
function follow(view, before) {
  const running = view.job && view.job.name.startsWith('looking');
  if (running && !(before && before.job)) {
    app.following = true;
    app.before = app.frame;
    app.source = 'run';
    play(false);
    if (innerWidth < 720) stage.scrollIntoView({block: 'nearest', behavior: 'smooth'});
  }
  if (running && app.following && view.going && app.frame !== view.going - 1) {
    app.frame = Math.min(frames() - 1, view.going - 1);
    show();
  }
  if (!running && app.following) go(app.before);
}
function tag() {
  const place = $('.cv-tag'), view = app.view;
  const quick = app.source === 'quick' && view.quick;
  place.hidden = !quick;
  place.textContent = quick ? 'quick answer, rough' : '';
}
async function poll() {
  try {
    const answer = await fetch(base() + 'state');
    if (answer.status === 404) return act('hello');
    update(await answer.json());
  } catch (error) {
    say('error', 'the server does not answer; is it still running?');
    timer = setTimeout(poll, 2000);
  }
}
app.poll = poll;
app.setTheta = (theta) => {
  app.theta = theta;
  app.moved = true;
  if (!app.view || !app.view.quick) return;
  app.source = 'quick';
  refresh();
};
const refresh = app.refresh = () => {
  for (const each of element.querySelectorAll('[data-source]')) each.classList.toggle('cv-on', each.dataset.source === app.source);
  drawStrips();
  tag();
  show();
  window.dispatchEvent(new CustomEvent('carvid-view'));
};

// Uploading

function send(file) {
  if (!file) return;
  if (bounds.bytes && file.size > bounds.bytes) {
    say('error', '"' + file.name + '" has ' + Math.ceil(file.size / 1e6) + ' MB; at most ' + Math.floor(bounds.bytes / 1e6) + ' MB may be uploaded');
    return;
  }
  const request = new XMLHttpRequest(), form = new FormData();
  form.append('files', file);
  request.open('POST', new URL('gradio_api/upload', document.baseURI).href);
  const status = (share) => progress({name: 'uploading ' + file.name, state: 'running', upload: share, frames: 1});
  request.upload.onprogress = (event) => status(event.loaded / event.total);
  request.onload = () => {
    progress(null);
    if (request.status !== 200) return say('error', 'the clip was not taken: it may be too large (at most ' + Math.floor(bounds.bytes / 1e6) + ' MB)');
    act('open', {path: JSON.parse(request.responseText)[0], name: file.name});
  };
  request.onerror = () => { progress(null); say('error', 'the upload broke off; is the server still running?'); };
  say('', '');
  status(0);
  request.send(form);
}

// Hands

const doing = {
  choose: () => $('.cv-file').click(), example: () => act('example'), cancel: () => act('cancel'),
  back: () => { play(false); go(app.frame - 1); }, forth: () => { play(false); go(app.frame + 1); },
  play: () => play(!app.playing), undo,
  names: () => {
    app.names = !app.names;
    $('.cv-names').setAttribute('aria-pressed', app.names);
    refresh();
  },
  correct: () => { if (app.pending.length) act('correct', {corrections: app.pending}); },
};
app.choose = doing.choose;
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.dataset.do) doing[button.dataset.do]();
  else if (button.dataset.source) { app.source = button.dataset.source; refresh(); }
  else if (button.dataset.tool !== undefined) { app.tool = button.dataset.tool; play(false); tools(); }
});
$('.cv-file').addEventListener('change', (event) => { send(event.target.files[0]); event.target.value = ''; });
image.addEventListener('click', click);
scrub.addEventListener('input', () => { play(false); go(Number(scrub.value)); });
strips.addEventListener('pointerdown', (event) => {
  const move = (now) => { play(false); go((now.clientX - strips.getBoundingClientRect().left) / strips.clientWidth * frames() - 0.5); };
  move(event);
  strips.setPointerCapture(event.pointerId);
  strips.onpointermove = move;
  strips.onpointerup = strips.onpointercancel = () => { strips.onpointermove = null; };
});
stage.addEventListener('keydown', (event) => {
  const keys = {ArrowLeft: 'back', ArrowRight: 'forth', ' ': 'play'};
  if (!keys[event.key] || event.target.closest('button')) return;
  event.preventDefault();
  doing[keys[event.key]]();
});
for (const name of ['dragover', 'dragleave', 'drop']) {
  stage.addEventListener(name, (event) => {
    event.preventDefault();
    stage.classList.toggle('cv-over', name === 'dragover');
    if (name === 'drop' && event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
  });
}
new ResizeObserver(() => { if (app.view && app.view.clip) { drawStrips(); } }).observe(stage);
watch('value', () => update(props.value));
update(props.value);
