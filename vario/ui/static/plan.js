export function planPage(frame, { parts }) {
  frame.crumbs([["runs", "#/runs"], [parts[0] ?? ""]], "plan");
  return { leave() {} };
}
