// A picture of a view as SVG text: the calls that paint a canvas, written down instead.

const XML = "http://www.w3.org/2000/svg";

export function svgElement(name, attributes = {}, text = "") {
  const made = document.createElementNS(XML, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// The part of a canvas' context that our views use. Sizes are in CSS pixels.
export class SvgContext {
  constructor(width, height) {
    this.root = svgElement("svg", { xmlns: XML, width, height, viewBox: `0 0 ${width} ${height}` });
    this.into = this.root;
    this.stack = [];
    this.clips = 0;
    Object.assign(this, { fillStyle: "black", strokeStyle: "black", lineWidth: 1, font: "11px system-ui", textAlign: "left", textBaseline: "alphabetic", dash: [], path: [], box: null });
    this.ruler = document.createElement("canvas").getContext("2d");
  }

  save() {
    const { fillStyle, strokeStyle, lineWidth, font, textAlign, textBaseline, dash, into } = this;
    this.stack.push({ fillStyle, strokeStyle, lineWidth, font, textAlign, textBaseline, dash, into });
  }

  restore() {
    Object.assign(this, this.stack.pop());
  }

  beginPath() {
    this.path = [];
    this.box = null;
  }

  moveTo(x, y) {
    this.path.push(`M${short(x)} ${short(y)}`);
  }

  lineTo(x, y) {
    this.path.push(`L${short(x)} ${short(y)}`);
  }

  closePath() {
    this.path.push("Z");
  }

  rect(x, y, width, height) {
    this.box = { x: short(x), y: short(y), width: short(width), height: short(height) };
  }

  clip() {
    const id = `clip-${++this.clips}`;
    const holder = svgElement("clipPath", { id });
    holder.append(svgElement("rect", this.box));
    const group = svgElement("g", { "clip-path": `url(#${id})` });
    this.into.append(holder, group);
    this.into = group;
  }

  stroke() {
    if (!this.path.length) return;
    const dash = this.dash.length ? { "stroke-dasharray": this.dash.join(" ") } : {};
    this.into.append(svgElement("path", { d: this.path.join(""), fill: "none", stroke: this.strokeStyle, "stroke-width": this.lineWidth, "stroke-linejoin": "round", ...dash }));
  }

  fill() {
    if (this.path.length) this.into.append(svgElement("path", { d: this.path.join(""), fill: this.fillStyle }));
  }

  fillRect(x, y, width, height) {
    if (width > 0 && height > 0) this.into.append(svgElement("rect", { x: short(x), y: short(y), width: short(width), height: short(height), fill: this.fillStyle }));
  }

  strokeRect(x, y, width, height) {
    this.into.append(svgElement("rect", { x: short(x), y: short(y), width: short(width), height: short(height), fill: "none", stroke: this.strokeStyle, "stroke-width": this.lineWidth }));
  }

  fillText(text, x, y) {
    const anchor = { right: "end", center: "middle" }[this.textAlign] ?? "start";
    const lift = this.textBaseline === "middle" ? { "dominant-baseline": "central" } : {};
    const [, weight = "400", size] = /^(?:(\d+) )?([\d.]+)px/.exec(this.font);
    this.into.append(svgElement("text", { x: short(x), y: short(y), fill: this.fillStyle, "font-size": size, "font-weight": weight, "font-family": "system-ui, sans-serif", "text-anchor": anchor, ...lift }, text));
  }

  setLineDash(dash) {
    this.dash = dash;
  }

  measureText(text) {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }

  // Nine numbers take a part of the picture, five all of it.
  drawImage(canvas, ...boxes) {
    if (boxes.length > 4) return this.drawImage(cut(canvas, boxes.slice(0, 4)), ...boxes.slice(4));
    const [x, y, width, height] = boxes;
    this.into.append(svgElement("image", { href: canvas.toDataURL(), x, y, width, height, preserveAspectRatio: "none", "image-rendering": "pixelated" }));
  }

  text() {
    return new XMLSerializer().serializeToString(this.root);
  }
}

export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name.replace(/[^\w.-]+/g, "-").slice(-120);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function short(value) {
  return Math.round(value * 100) / 100;
}

function cut(canvas, [x, y, width, height]) {
  const part = document.createElement("canvas");
  [part.width, part.height] = [width, height];
  part.getContext("2d").drawImage(canvas, x, y, width, height, 0, 0, width, height);
  return part;
}
