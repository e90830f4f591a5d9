namespace ExactFlow.Models.Text.Files;

/// <summary>Reads the <c>post_processor</c> of a <c>tokenizer.json</c>, as far as it concerns single texts: the special tokens before and after.</summary>
internal static class PostProcessorReader
{
    /// <summary>Ids to put before and after the ids of a text.</summary>
    /// <exception cref="Tensors.InvalidInputException">It is damaged, or of a kind that is not computed here, which is named.</exception>
    public static (int[] Before, int[] After) Read(JsonPart? part)
    {
        if (part is not { } given)
        {
            return ([], []);
        }

        switch (given.Type)
        {
            case "ByteLevel":
                _ = given.Only("add_prefix_space", "trim_offsets", "use_regex");
                return ([], []);
            case "TemplateProcessing":
                return ReadTemplate(given.Only("single", "pair", "special_tokens"));
            case "BertProcessing" or "RobertaProcessing":
                _ = given.Only("sep", "cls", "trim_offsets", "add_prefix_space");
                return ([IdOfPair(given["cls"])], [IdOfPair(given["sep"])]);
            case "Sequence":
                (int[] before, int[] after) = ((int[])[], (int[])[]);
                foreach (JsonPart item in given.Only("processors")["processors"].Items())
                {
                    (int[] outerBefore, int[] outerAfter) = Read(item);
                    (before, after) = ([.. outerBefore, .. before], [.. after, .. outerAfter]);
                }

                return (before, after);
            default:
                throw given.Unsupported($"the type {given.Type}");
        }
    }

    private static (int[] Before, int[] After) ReadTemplate(JsonPart part)
    {
        List<int> before = [], after = [];
        bool isAfter = false;
        foreach (JsonPart piece in part["single"].Items())
        {
            if (piece.Find("Sequence") is { } sequence)
            {
                if (isAfter || sequence["id"].Text() != "A")
                {
                    throw piece.Unsupported("a template that does not hold the text 'A' exactly once");
                }

                isAfter = true;
                continue;
            }

            string name = piece["SpecialToken"]["id"].Text();
            (isAfter ? after : before).AddRange(part["special_tokens"][name]["ids"].Items().Select(id => id.Whole()));
        }

        return isAfter ? ([.. before], [.. after]) : throw part.Unsupported("a template that does not hold the text 'A' exactly once");
    }

    private static int IdOfPair(JsonPart part) => part.Items().ToArray() is [_, var id] ? id.Whole() : throw part.Wrong("be a token and its id", "it has not two elements");
}
