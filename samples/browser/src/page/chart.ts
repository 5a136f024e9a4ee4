/** The chart of the loss: of every step, and of held-out samples. It is drawn at most once per frame, of a bounded number of points. */
import type { Measured } from "../training/keeping";

const [HEIGHT, LEFT, RIGHT, BOTTOM, TOP] = [220, 56, 8, 24, 8];
const NARROWEST = 240;
const MOST_POINTS = 300;
const SVG = "http://www.w3.org/2000/svg";

export class Chart {
  private losses: number[] = [];
  private held: Measured[] = [];
  private waiting = false;

  constructor(private readonly where: HTMLElement) {
    this.draw();
    new ResizeObserver(() => this.soon()).observe(where);
  }

  reset(losses: number[], held: Measured[]): void {
    [this.losses, this.held] = [[...losses], [...held]];
    this.soon();
  }
  addStep(loss: number): void {
    this.losses.push(loss);
    this.soon();
  }
  addHeld(measured: Measured): void {
    this.held.push(measured);
    this.soon();
  }

  private soon(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  private draw(): void {
    const width = Math.max(this.where.clientWidth, NARROWEST);
    const points = thinned(this.losses);
    const values = [...points.map(([, loss]) => loss), ...this.held.map(({ loss }) => loss)];
    const [least, most] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const span = most - least || Math.abs(most) || 1;
    const last = Math.max(this.losses.length, ...this.held.map(({ step }) => step), 1);
    const x = (step: number): number => LEFT + ((width - LEFT - RIGHT) * step) / last;
    const y = (loss: number): number => TOP + (HEIGHT - BOTTOM - TOP) * (1 - (loss - least) / span);
    const line = (each: [number, number][]): string => each.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(" ");
    const held = this.held.map(({ step, loss }): [number, number] => [step, loss]);
    const told = this.losses.length
      ? `Loss from ${short(this.losses[0]!)} to ${short(this.losses[this.losses.length - 1]!)} in ${this.losses.length} steps`
      : "No step yet";
    const svg = made("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": told });
    for (const part of [0, 0.5, 1]) {
      const value = least + part * span;
      svg.append(made("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
      if (values.length) svg.append(made("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)));
    }
    svg.append(made("text", { x: LEFT, y: HEIGHT - 4 }, "0"), made("text", { x: width - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, `step ${last}`));
    svg.append(made("polyline", { class: "train", points: line(points) }), made("polyline", { class: "held", points: line(held) }));
    for (const [step, loss] of held) svg.append(made("circle", { class: "point", cx: x(step), cy: y(loss), r: 3 }));
    const legend = document.createElement("p");
    legend.className = "legend";
    for (const [name, text] of [["train", "batches"], ["held", "held out"]]) {
      const entry = document.createElement("span");
      entry.className = name!;
      entry.textContent = text!;
      legend.append(entry);
    }
    this.where.replaceChildren(svg, legend);
  }
}

/** Returns points of (step, mean loss of some steps), so that a long run is as quick to draw as a short one. */
function thinned(losses: number[]): [number, number][] {
  const group = Math.ceil(losses.length / MOST_POINTS) || 1;
  const points: [number, number][] = [];
  for (let first = 0; first < losses.length; first += group) {
    const some = losses.slice(first, first + group);
    points.push([first + some.length, some.reduce((sum, loss) => sum + loss, 0) / some.length]);
  }
  return points;
}

function made(kind: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const found = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, String(value));
  if (text !== undefined) found.textContent = text;
  return found;
}

/** Returns a number with four digits that count. */
export function short(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : value > 0 ? "∞" : "–";
}
