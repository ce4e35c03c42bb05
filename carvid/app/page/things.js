// The list of what is looked for: shown or not, colour, name, in how many frames; each row is made
// once and then changed, so that a field that somebody writes in stays as it is.
const list = element.querySelector('.cv-list'), hint = element.querySelector('.cv-hint');
const app = window.carvid = window.carvid || {};
const EYE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 5C6 5 2.5 12 2.5 12S6 19 12 19s9.500-7 9.500-7S18 5 12 5zm0 11a4 4 0 1 1 0-8 4 4 0 0 1 0 8z"></path></svg>';
function row() {
  const item = document.createElement('li');
  item.innerHTML = '<button type="button" class="cv-eye" title="Show or hide">' + EYE + '</button>' +
    '<input type="color" class="cv-color" aria-label="Colour" title="Colour">' +
    '<span class="cv-what"><input type="text" class="cv-name" maxlength="300" spellcheck="false" aria-label="Name" title="Write here to rename">' +
    '<span class="cv-found"></span></span>' +
    '<button type="button" class="cv-remove" aria-label="Remove" title="Remove">×</button>';
  const place = () => Number(item.dataset.place), thing = () => app.view.things[place()];
  item.querySelector('.cv-eye').onclick = () => {
    const text = app.key(thing());
    if (!app.hidden.delete(text)) app.hidden.add(text);
    app.refresh();
  };
  item.querySelector('.cv-color').onchange = (event) => app.act('paint', {place: place(), value: event.target.value});
  const name = item.querySelector('.cv-name');
  name.onchange = () => { if (name.value !== thing().name) app.act('rename', {place: place(), value: name.value}); };
  name.onkeydown = (event) => { if (event.key === 'Enter') name.blur(); };
  item.querySelector('.cv-remove').onclick = () => app.act('remove', {place: place()});
  return item;
}
function words(thing, view) {
  const asked = thing.name === thing.text ? '' : '“' + thing.text + '” · ';
  if (app.source === 'quick' && view.quick && thing.row !== null) {
    const best = Math.max(...view.quick.scores[thing.row]);
    return asked + (best > app.theta ? 'seen, best score ' : 'not seen, best score ') + best.toFixed(2);
  }
  if (!thing.label) return asked + 'not looked for yet';
  if (thing.found === null) return asked + (view.job ? 'being looked for' : 'begun, not finished');
  return asked + (thing.found ? 'in ' + thing.found + ' of ' + view.clip.frames + ' frames' : 'in no frame');
}
function draw() {
  const view = app.view;
  if (!view) return;
  while (list.children.length > view.things.length) list.lastElementChild.remove();
  while (list.children.length < view.things.length) list.append(row());
  view.things.forEach((thing, k) => {
    const item = list.children[k], name = item.querySelector('.cv-name'), color = item.querySelector('.cv-color');
    item.dataset.place = k;
    item.classList.toggle('cv-off', app.hidden.has(app.key(thing)));
    item.querySelector('.cv-eye').setAttribute('aria-pressed', !app.hidden.has(app.key(thing)));
    if (document.activeElement !== name) name.value = thing.name;
    if (document.activeElement !== color) color.value = thing.color;
    item.querySelector('.cv-found').textContent = words(thing, view);
  });
  const files = document.querySelector('.cv-files');
  if (files) {
    files.replaceChildren(...view.exports.map((file) => {
      const link = document.createElement('a');
      link.href = new URL(file.url, document.baseURI).href;
      link.download = file.name;
      const size = file.bytes < 1e6 ? Math.ceil(file.bytes / 1e3) + ' kB' : (file.bytes / 1e6).toFixed(1) + ' MB';
      link.textContent = file.name + ' · ' + size;
      return link;
    }));
  }
  const where = document.querySelector('.cv-where');
  if (where && view.clip) {
    const clip = view.clip;
    where.textContent = clip.name + ' · ' + clip.width + ' × ' + clip.height + ' · ' + clip.frames + ' frames · model ' + clip.model + (clip.folder ? ' · in ' + clip.folder : '');
    where.title = clip.folder;
  }
  hint.textContent = view.things.length ? '' : 'Say what you look for, in your own words.';
}
window.addEventListener('carvid-view', draw);
draw();
