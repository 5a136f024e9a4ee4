/** Held-out pictures, before and after; of a classifier, what it says of them. */
import type { Picture, Shown } from "../training/held_out";

/** Draws them. `after` is none before anything was trained. */
export function show(where: HTMLElement, before: Shown[], after: Shown[] | null, classes: string[]): void {
  where.replaceChildren(
    ...before.map((first, index) => {
      const second = after?.[index] ?? null;
      const figure = document.createElement("figure");
      figure.className = "case";
      const strip = document.createElement("div");
      strip.className = "strip";
      strip.append(cell("given", first.input));
      if (first.output) strip.append(cell("before", first.output));
      if (second?.output) strip.append(cell("after", second.output));
      if (first.target) strip.append(cell("wanted", first.target));
      if (first.answer) {
        strip.append(said("before", first.answer, classes));
        if (second?.answer) strip.append(said("after", second.answer, classes));
        strip.append(words("wanted", nameOf(first.answer.expected, classes)));
      }
      const caption = document.createElement("figcaption");
      caption.textContent = first.name;
      figure.append(strip, caption);
      return figure;
    }),
  );
}

function cell(title: string, { width, height, rgba }: Picture): HTMLElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", title);
  canvas.getContext("2d")?.putImageData(new ImageData(rgba, width, height), 0, 0);
  const found = document.createElement("div");
  found.append(canvas, title);
  return found;
}

function said(title: string, { class: best, probability }: NonNullable<Shown["answer"]>, classes: string[]): HTMLElement {
  return words(title, `${nameOf(best, classes)}, ${Math.round(100 * probability)} %`);
}

function words(title: string, text: string): HTMLElement {
  const found = document.createElement("div");
  const strong = document.createElement("strong");
  strong.textContent = text;
  found.append(strong, document.createElement("br"), title);
  return found;
}

function nameOf(index: number, classes: string[]): string {
  return classes[index] ?? `class ${index}`;
}
