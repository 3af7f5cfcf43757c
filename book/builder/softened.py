"""Run in a kernel before the chapter: an assertion that does not hold is said on the page, which goes on."""


def soften():
    import ast

    class Softened(ast.NodeTransformer):
        def visit_Assert(self, node):
            said = [ast.Constant("NOT SO HERE:"), node.msg or ast.Constant(ast.unparse(node.test))]
            instead = ast.Expr(ast.Call(ast.Name("print", ast.Load()), said, []))
            unless = ast.If(ast.UnaryOp(ast.Not(), node.test), [instead], [])
            return ast.fix_missing_locations(ast.copy_location(unless, node))

    get_ipython().ast_transformers.append(Softened())  # noqa: F821


soften()
del soften
