'use strict';

const element = (id) => document.getElementById(id);
const facts = JSON.parse(element('facts').textContent);
const {rows, columns, heads, prefix, values} = facts;
const tokens = prefix.length + rows * columns;
// One array per layer: the code of each weight, (heads, queries, keys).
const layers = [...document.querySelectorAll('.codes')].map(decode);
const maps = [...document.querySelectorAll('#maps canvas')];

const middle = Math.floor(rows / 2) * columns + Math.floor(columns / 2);
// Indices of patches: the one that attends, and the one attended to.
let query = middle;
let key = middle;

function decode(block) {
  const bytes = atob(block.textContent);
  const codes = new Uint8Array(bytes.length);
  for (let i = 0; i < codes.length; i++) codes[i] = bytes.charCodeAt(i);
  return codes;
}

// Returns the tokens that attend, each with its share in the result.
function sources() {
  const from = element('from').value;
  if (from === 'pooling') {
    return [...facts.shares.entries()].filter(([, share]) => share > 0);
  }
  return [[from === 'patch' ? prefix.length + query : Number(from), 1]];
}

// Returns the weight on every token, in a layer, for a head or their mean.
function attention(layer, head) {
  const weights = new Float64Array(tokens);
  const chosen = head === 'mean' ? [...Array(heads).keys()] : [Number(head)];
  for (const h of chosen) {
    for (const [token, share] of sources()) {
      const start = (h * tokens + token) * tokens;
      for (let i = 0; i < tokens; i++) {
        weights[i] += share / chosen.length * values[layers[layer][start + i]];
      }
    }
  }
  return weights;
}

function paint(canvas, weights) {
  const patches = weights.subarray(prefix.length);
  const largest = Math.max(...patches) || 1;
  const image = new ImageData(columns, rows);
  patches.forEach((weight, i) => {
    const colour = facts.colours[Math.round(255 * weight / largest)];
    image.data.set([...colour, 255], 4 * i);
  });
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext('2d').putImageData(image, 0, 0);
}

function place(frame, patch) {
  frame.style.left = `${100 * (patch % columns) / columns}%`;
  frame.style.top = `${100 * Math.floor(patch / columns) / rows}%`;
  frame.style.width = `${100 / columns}%`;
  frame.style.height = `${100 / rows}%`;
}

const position = (patch) =>
  `row ${Math.floor(patch / columns) + 1}, column ${patch % columns + 1}`;

const rounded = (x, digits) => String(Number(x.toPrecision(digits)));

const number = (weight) => weight < values[1] ? '0' : rounded(weight, 3);

function list(weights) {
  const patches = [...weights.subarray(prefix.length)];
  const order = [...patches.keys()].sort((a, b) => patches[b] - patches[a]);
  const lines = [
    ...prefix.map((name, i) => [name, weights[i]]),
    ['all patches', patches.reduce((sum, weight) => sum + weight, 0)],
    ...order.slice(0, 5).map((i) => [position(i), patches[i]]),
  ];
  element('largest').replaceChildren(...lines.map(([name, weight]) => {
    const line = document.createElement('tr');
    line.append(document.createElement('th'), document.createElement('td'));
    line.firstChild.textContent = name;
    line.lastChild.textContent = number(weight);
    return line;
  }));
}

// Shows the attention of one layer and head.
function show() {
  const {from, layer, head} = Object.fromEntries(
    ['from', 'layer', 'head'].map((id) => [id, element(id)]));
  const weights = attention(layer.value, head.value);
  paint(element('map'), weights);
  place(element('query'), query);
  element('query').hidden = from.value !== 'patch';
  place(element('key'), key);
  const weight = weights[prefix.length + key];
  const source = from.value === 'patch' ?
    position(query) : from.selectedOptions[0].textContent;
  element('weight').textContent = number(weight);
  element('words').textContent =
    `weight from ${source} to ${position(key)}, ` +
    `${rounded(weight * tokens, 2)} times the mean weight`;
  list(weights);
  for (const canvas of maps) {
    const {layer: row, head: column} = canvas.dataset;
    canvas.classList.toggle(
      'chosen', row === layer.value && column === head.value);
  }
}

// Shows the attention of all layers and heads.
function showAll() {
  for (const canvas of maps) {
    paint(canvas, attention(canvas.dataset.layer, canvas.dataset.head));
  }
  show();
}

function attendFrom(patch) {
  query = patch;
  element('from').value = 'patch';
  showAll();
}

function patchAt(event) {
  const box = element('photo').getBoundingClientRect();
  const index = (share, count) =>
    Math.min(Math.max(Math.floor(share * count), 0), count - 1);
  return columns * index((event.clientY - box.top) / box.height, rows) +
    index((event.clientX - box.left) / box.width, columns);
}

// Returns the patch beside another one, or undefined if no arrow is pressed.
function neighbour(patch, arrow) {
  const row = Math.floor(patch / columns);
  const column = patch % columns;
  return {
    ArrowUp: row > 0 ? patch - columns : patch,
    ArrowDown: row < rows - 1 ? patch + columns : patch,
    ArrowLeft: column > 0 ? patch - 1 : patch,
    ArrowRight: column < columns - 1 ? patch + 1 : patch,
  }[arrow];
}

element('photo').addEventListener('click', (event) => {
  attendFrom(patchAt(event));
});
element('photo').addEventListener('pointermove', (event) => {
  const patch = patchAt(event);
  if (patch === key) return;
  key = patch;
  show();
});
element('photo').addEventListener('keydown', (event) => {
  const patch = neighbour(event.shiftKey ? key : query, event.key);
  if (patch === undefined) return;
  event.preventDefault();
  if (event.shiftKey) {
    key = patch;
    show();
  } else {
    attendFrom(patch);
  }
});
element('maps').addEventListener('click', (event) => {
  const {layer, head} = event.target.dataset;
  if (layer === undefined) return;
  element('layer').value = layer;
  element('head').value = head;
  show();
});
element('from').addEventListener('change', showAll);
element('layer').addEventListener('change', show);
element('head').addEventListener('change', show);
element('opacity').addEventListener('input', () => {
  element('photo').style.setProperty('--opacity', element('opacity').value);
});

showAll();
