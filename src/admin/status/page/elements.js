// ---- elements; text is always set as text, never as markup ----

const byId = (id) => document.getElementById(id);
function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
function setData(element, name, value) {
  if (value === undefined) element.removeAttribute(`data-${name}`);
  else if (element.getAttribute(`data-${name}`) !== value) element.setAttribute(`data-${name}`, value);
}

/**
 * Updates the rows of a table. Cells are { text, sub, more, mark, tone, pill, share, className }. Existing
 * elements are reused, which preserves the user's text selection.
 */
function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, at) => {
    const shape = cells.map((cell) => Object.keys(cell).join()).join(";");
    let row = body.rows[at];
    if (!row) row = body.insertRow();
    if (row.dataset.shape !== shape) {
      row.replaceChildren(...cells.map(() => make("td")));
      row.dataset.shape = shape;
      row.className = cells.length === 1 ? "group" : "";
    }
    cells.forEach((cell, column) => fillCell(row.cells[column], cell));
  });
}
const EXTRAS = ["sub", "more", "mark"];
function fillCell(place, cell) {
  const { text, tone, pill, share, className } = cell;
  const extras = EXTRAS.filter((name) => cell[name] !== undefined);
  if (cell.span) place.colSpan = cell.span;
  if (place.className !== (className || "")) place.className = className || "";
  if (!place.firstChild) {
    place.append(make("span", pill ? "pill" : share ? "share" : ""));
    if (share) place.firstChild.append(track(), make("span"));
    for (const name of extras) place.append(" ", make("span", name));
  }
  const first = place.firstChild;
  if (share) {
    fillTrack(first, share);
  } else {
    setText(first, text);
  }
  setData(pill ? first : place, "tone", tone);
  extras.forEach((name, at) => {
    setText(place.children[1 + at], cell[name]);
    place.children[1 + at].hidden = cell[name] === "";
  });
}
function track() {
  const made = make("span", "track");
  made.append(make("span", "fill"), make("span", "expected"));
  return made;
}
function fillTrack(place, { actual, expected }) {
  const [bar, words] = place.children;
  bar.firstChild.style.width = `${(actual || 0) * 100}%`;
  bar.lastChild.style.left = `${expected * 100}%`;
  setText(words, actual === null ? "\u2013" : `${Math.round(actual * 100)} %`);
}
