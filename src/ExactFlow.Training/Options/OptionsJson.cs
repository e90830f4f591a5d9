using System.Collections;
using System.ComponentModel;
using System.ComponentModel.DataAnnotations;
using System.Reflection;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using ExactFlow.Tensors;

namespace ExactFlow.Training.Options;

/// <summary>
/// Options records to JSON and back. Keys are the property names in snake_case, nested records nested objects; an absent key keeps its default.
/// An unknown key, a value of the wrong type or one out of its range is an <see cref="InvalidInputException"/> that names the key and what is allowed.
/// </summary>
public static class OptionsJson
{
    private static readonly JsonSerializerOptions Written = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    private static readonly JsonDocumentOptions Accepted = new()
    {
        AllowDuplicateProperties = false,
        CommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
    };

    /// <summary>Reads a recipe file and applies overrides.</summary>
    /// <typeparam name="T">The options record.</typeparam>
    /// <param name="path">The JSON file, or null for the defaults.</param>
    /// <param name="overrides">Settings as given to <c>--set</c>: <c>optimizer.learning_rate=3e-3</c>; later ones win.</param>
    /// <exception cref="InvalidInputException">The file cannot be read, is not JSON, or says something that is not allowed.</exception>
    public static T Load<T>(string? path, IEnumerable<string> overrides)
        where T : class, new()
    {
        if (path is null)
        {
            return Read<T>("{}", "the defaults", overrides);
        }

        string text;
        try
        {
            text = File.ReadAllText(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"The recipe '{path}' cannot be read: {exception.Message}", exception);
        }

        return Read<T>(text, $"the recipe '{path}'", overrides);
    }

    /// <summary>Reads JSON text and applies overrides.</summary>
    /// <typeparam name="T">The options record.</typeparam>
    /// <param name="json">An object.</param>
    /// <param name="source">What to call the text in messages.</param>
    /// <param name="overrides">Settings as given to <c>--set</c>.</param>
    public static T Read<T>(string json, string source, IEnumerable<string> overrides)
        where T : class, new()
    {
        ArgumentNullException.ThrowIfNull(overrides);
        JsonNode? root;
        try
        {
            root = JsonNode.Parse(json, documentOptions: Accepted);
        }
        catch (JsonException exception)
        {
            throw new InvalidInputException($"Reading {source} failed: it is not valid JSON ({exception.Message.TrimEnd('.')}); correct the file.", exception);
        }

        if (root is not JsonObject recipe)
        {
            throw new InvalidInputException($"Reading {source} failed: a JSON object was expected, but it holds {Describe(root)}.");
        }

        var result = new T();
        Bind(result, recipe, string.Empty, source);
        foreach (string setting in overrides)
        {
            Apply(result, setting);
        }

        return result;
    }

    /// <summary>All options as indented JSON, defaults included.</summary>
    public static string Write<T>(T options) => JsonSerializer.Serialize(options, Written) + "\n";

    /// <summary>Every option with its path, default and meaning, in the order of the classes: for help texts.</summary>
    public static IReadOnlyList<(string Path, string Default, string Description)> Describe<T>()
        where T : class, new()
    {
        var rows = new List<(string, string, string)>();
        Collect(new T(), string.Empty, rows);
        return rows;
    }

    private static void Collect(object target, string prefix, List<(string Path, string Default, string Description)> rows)
    {
        foreach (PropertyInfo property in Properties(target.GetType()))
        {
            object? value = property.GetValue(target);
            string path = prefix + Key(property);
            if (IsSection(property))
            {
                Collect(value!, path + ".", rows);
            }
            else
            {
                string text = JsonSerializer.Serialize(value, property.PropertyType, Written).ReplaceLineEndings(string.Empty);
                rows.Add((path, text, property.GetCustomAttribute<DescriptionAttribute>()?.Description ?? string.Empty));
            }
        }
    }

    private static void Apply(object target, string setting)
    {
        int equals = setting.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            throw new InvalidInputException($"The setting '{setting}' has no value: write it as key=value, for instance optimizer.learning_rate=3e-3.");
        }

        string path = setting[..equals].Trim();
        string text = setting[(equals + 1)..].Trim();
        string source = $"the setting '{setting}'";
        string[] keys = path.Split('.');
        string prefix = string.Empty;
        for (int i = 0; i + 1 < keys.Length; i++)
        {
            PropertyInfo section = Find(target, keys[i], prefix, source);
            if (!IsSection(section))
            {
                throw new InvalidInputException($"Reading {source} failed: '{prefix}{keys[i]}' is a single value, not a section.");
            }

            prefix += keys[i] + ".";
            target = section.GetValue(target)!;
        }

        PropertyInfo property = Find(target, keys[^1], prefix, source);
        Assign(target, property, ParseSetting(text, property), path, source);
    }

    private static JsonNode? ParseSetting(string text, PropertyInfo property)
    {
        if (property.PropertyType == typeof(string[]))
        {
            return new JsonArray([.. text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(item => (JsonNode)item)]);
        }

        if (property.PropertyType == typeof(int[]))
        {
            text = $"[{text}]";
        }

        if (property.PropertyType == typeof(string))
        {
            return text == "null" && AllowsNull(property) ? null : JsonValue.Create(text);
        }

        try
        {
            return JsonNode.Parse(text);
        }
        catch (JsonException)
        {
            return JsonValue.Create(text);
        }
    }

    private static void Bind(object target, JsonObject values, string prefix, string source)
    {
        foreach ((string key, JsonNode? value) in values)
        {
            PropertyInfo property = Find(target, key, prefix, source);
            Assign(target, property, value, prefix + key, source);
        }
    }

    private static void Assign(object target, PropertyInfo property, JsonNode? value, string path, string source)
    {
        if (IsSection(property))
        {
            JsonObject section = value as JsonObject
                ?? throw new InvalidInputException($"Reading {source} failed: '{path}' must be an object with {Keys(property.PropertyType)}, but it is {Describe(value)}.");
            Bind(property.GetValue(target)!, section, path + ".", source);
            return;
        }

        object? parsed;
        try
        {
            parsed = value is null && AllowsNull(property) ? null : (value ?? throw new JsonException()).Deserialize(property.PropertyType, Written);
        }
        catch (JsonException exception)
        {
            throw new InvalidInputException($"Reading {source} failed: '{path}' must be {Expected(property)}, but it is {Describe(value)}.", exception);
        }

        RequireRange(property, parsed, path, source);
        property.SetValue(target, parsed);
    }

    private static void RequireRange(PropertyInfo property, object? value, string path, string source)
    {
        bool valid = property.GetCustomAttribute<RangeAttribute>() is not { } range || (IsFinite(value) && range.IsValid(value));
        valid &= property.GetCustomAttribute<RegularExpressionAttribute>() is not { } pattern
            || Regex.IsMatch((string)value!, $"^(?:{pattern.Pattern})$", RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
        valid &= property.GetCustomAttribute<AllowedValuesAttribute>() is not { } allowed
            || (value is string[] many ? many.All(one => allowed.IsValid(one)) : allowed.IsValid(value));
        if (!valid)
        {
            string found = value is string[] list ? string.Join(",", list) : $"{value}";
            throw new InvalidInputException($"Reading {source} failed: '{path}' must be {Expected(property)}, but it is {found}.");
        }
    }

    private static bool IsFinite(object? value) => value is not double number || double.IsFinite(number);

    private static string Expected(PropertyInfo property)
    {
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        string kind = type switch
        {
            _ when type == typeof(bool) => "true or false",
            _ when type == typeof(int) || type == typeof(long) => "a whole number",
            _ when type == typeof(double) => "a number",
            _ when type == typeof(string[]) => "a list of strings",
            _ when type == typeof(int[]) => "a list of whole numbers",
            _ => "a string",
        };
        if (property.GetCustomAttribute<RangeAttribute>() is { } range)
        {
            kind += range.Maximum is int.MaxValue ? $" of {range.Minimum} or more"
                : range.Minimum is double.Epsilon ? $" above 0 and at most {range.Maximum}"
                : $" from {range.Minimum} to {range.Maximum}";
        }

        if (property.GetCustomAttribute<RegularExpressionAttribute>() is { } pattern)
        {
            kind += $" of {pattern.ErrorMessage ?? pattern.Pattern}";
        }

        if (property.GetCustomAttribute<AllowedValuesAttribute>() is { } allowed)
        {
            kind = $"one of {string.Join(", ", allowed.Values)}";
        }

        return AllowsNull(property) ? kind + " or null" : kind;
    }

    private static PropertyInfo Find(object target, string key, string prefix, string source)
        => Properties(target.GetType()).FirstOrDefault(property => Key(property) == key)
            ?? throw new InvalidInputException($"Reading {source} failed: there is no option '{prefix}{key}'; allowed {(prefix.Length == 0 ? "here" : $"in '{prefix[..^1]}'")}: {Keys(target.GetType())}.");

    private static string Keys(Type type) => string.Join(", ", Properties(type).Select(Key));

    private static IEnumerable<PropertyInfo> Properties(Type type)
        => type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(property => property.CanWrite);

    private static string Key(PropertyInfo property) => JsonNamingPolicy.SnakeCaseLower.ConvertName(property.Name);

    private static bool IsSection(PropertyInfo property)
        => property.PropertyType is { IsClass: true } type && type != typeof(string) && !typeof(IEnumerable).IsAssignableFrom(type);

    private static bool AllowsNull(PropertyInfo property)
        => Nullable.GetUnderlyingType(property.PropertyType) is not null
            || (!property.PropertyType.IsValueType && new NullabilityInfoContext().Create(property).WriteState == NullabilityState.Nullable);

    private static string Describe(JsonNode? value) => value switch
    {
        null => "null",
        JsonObject => "an object",
        JsonArray => "a list",
        _ => value.ToJsonString(Written),
    };
}
