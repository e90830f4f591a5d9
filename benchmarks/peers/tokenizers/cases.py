import json,random
random.seed(7)
D=__import__('sys').argv[1].rstrip('/')+'/'  # the folder with cs336-bpe-fixtures
bl={"type":"ByteLevel","add_prefix_space":False,"trim_offsets":True,"use_regex":True}
noreg=dict(bl,use_regex=False)
def added(i,c,**k):
    t=dict(id=i,content=c,single_word=False,lstrip=False,rstrip=False,normalized=False,special=False); t.update(k); return t
# byte-level base: the 256 bytes and the first merges of the public course fixture
bs=[b for b in range(256) if (33<=b<=126 or 0xA1<=b<=0xAC or 0xAE<=b)]
m={};n=0
for b in range(256):
    if b in bs: m[b]=chr(b)
    else: m[b]=chr(256+n); n+=1
merges=open(D+'cs336-bpe-fixtures/train-bpe-reference-merges.txt').read().splitlines()[:60]+["Ġ Ġ","Ċ Ċ","1 2","Ã ©","Ġ '","e Ì"]
vocab={}
for c in sorted(m.values()): vocab[c]=len(vocab)
for x in merges: vocab.setdefault(x.replace(' ',''),len(vocab))
V=len(vocab)
toks=[added(V,'<|end|>',special=True),added(V+1,'<mask>',lstrip=True,special=True),added(V+2,'<r>',rstrip=True),added(V+3,'word',single_word=True),added(V+4,'   ',normalized=True),added(V+5,'Café',normalized=True),added(V+6,'<|end|>x')]
def byte(**k):
    r={"version":"1.0","truncation":None,"padding":None,"added_tokens":toks,"normalizer":None,"pre_tokenizer":bl,"post_processor":None,"decoder":bl,
       "model":{"type":"BPE","dropout":None,"unk_token":None,"continuing_subword_prefix":None,"end_of_word_suffix":None,"fuse_unk":False,"byte_fallback":False,"ignore_merges":False,"vocab":vocab,"merges":merges}}
    for a,b in k.items():
        if a=='model': r['model']=dict(r['model'],**b)
        else: r[a]=b
    return r
cl=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
o2=r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
qw=cl.replace('{1,3}','')
def split(rx,b="Isolated",inv=False,s=False): return {"type":"Split","pattern":{"String" if s else "Regex":rx},"behavior":b,"invert":inv}
def seq(*p): return {"type":"Sequence","pretokenizers":list(p)}
def nseq(*p): return {"type":"Sequence","normalizers":list(p)}
variants={
 'gpt2':byte(), 'prefix':byte(pre_tokenizer=dict(bl,add_prefix_space=True)),
 'qwen':byte(pre_tokenizer=seq(split(qw),noreg),normalizer={"type":"NFC"}),
 'llama3':byte(pre_tokenizer=seq(split(cl,"Removed",True),noreg),model={"ignore_merges":True},post_processor={"type":"Sequence","processors":[bl,{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|end|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<|end|>":{"id":"<|end|>","ids":[V],"tokens":["<|end|>"]}}}]}),
 'o200k':byte(pre_tokenizer=seq(split(o2),noreg)),
 'starcoder':byte(pre_tokenizer=seq({"type":"Digits","individual_digits":True},bl)),
 'digits':byte(pre_tokenizer=seq({"type":"Digits","individual_digits":False},{"type":"Punctuation","behavior":"MergedWithPrevious"},noreg),normalizer={"type":"NFD"}),
 'punct':byte(pre_tokenizer=seq({"type":"Punctuation","behavior":"Contiguous"},bl),normalizer={"type":"NFKC"}),
 'space':byte(pre_tokenizer=seq({"type":"WhitespaceSplit"},noreg),normalizer=nseq({"type":"NFKD"},{"type":"StripAccents"},{"type":"Lowercase"})),
 'words':byte(pre_tokenizer=seq({"type":"Whitespace"},dict(noreg,add_prefix_space=True)),normalizer={"type":"Lowercase"}),
 'next':byte(pre_tokenizer=seq(split(" ","MergedWithNext",s=True),noreg)),
 'strip':byte(added_tokens=[],normalizer={"type":"Strip","strip_left":True,"strip_right":True}),
 'prev':byte(pre_tokenizer=seq(split(r"\s+","MergedWithPrevious"),noreg),normalizer={"type":"Replace","pattern":{"Regex":"[0-9]+"},"content":"#"}),
 'delim':byte(pre_tokenizer=seq({"type":"CharDelimiterSplit","delimiter":"e"},noreg)),
 'whole':byte(pre_tokenizer=noreg),
 'roberta':byte(post_processor={"type":"RobertaProcessing","sep":["<|end|>",V],"cls":["<mask>",V+1],"trim_offsets":True,"add_prefix_space":False},decoder=None),
}
# characters with byte fallback
cv={}
for t in ['<unk>','<s>','</s>']: cv[t]=len(cv)
for b in range(256): cv['<0x%02X>'%b]=len(cv)
for c in "▁abcdefghijklmnopqrstuvwxyzTHE0123456789.,'é中": cv[c]=len(cv)
cm=["▁ t","h e","▁t he","i n","e r","▁ a","o n","r e","l l","e n","▁ ▁","▁▁ ▁▁","▁▁ ▁","w or","o r","w or","1 2"]
cm=[x for i,x in enumerate(cm) if x not in cm[:i]]
cm.remove("w or"); cm.append("w or")
for x in cm: cv.setdefault(x.replace(' ',''),len(cv))
C=len(cv)
ctoks=[added(0,'<unk>',special=True),added(1,'<s>',special=True),added(2,'</s>',special=True),added(C,'<mask>',lstrip=True,rstrip=True,special=True),added(C+1,'word',single_word=True,normalized=True),added(C+2,'▁▁end',normalized=True)]
tmpl={"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]},"</s>":{"id":"</s>","ids":[2],"tokens":["</s>"]}}}
dec={"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}
def char(**k):
    r=byte(added_tokens=ctoks,pre_tokenizer=None,decoder=dec,post_processor=tmpl,model=dict(unk_token='<unk>',fuse_unk=True,byte_fallback=True,vocab=cv,merges=cm))
    for a,b in k.items():
        if a=='model': r['model']=dict(r['model'],**b)
        else: r[a]=b
    return r
llama=nseq({"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"})
def meta(s,sp): return {"type":"Metaspace","replacement":"▁","prepend_scheme":s,"split":sp}
nobytes={k:v for k,v in cv.items() if not k.startswith('<0x')}
# ids must stay dense
def dense(v): return {k:i for i,k in enumerate(v)}
nb=dense(nobytes); N=len(nb)
ntoks=[added(nb['<unk>'],'<unk>',special=True),added(nb['<s>'],'<s>',special=True),added(nb['</s>'],'</s>',special=True),added(N,'<mask>',lstrip=True,rstrip=True,special=True)]
few=dense({k:v for k,v in cv.items() if not k.startswith('<0x') or k in('<0xC3>','<0xBC>','<0x0A>')})
variants.update({
 'llama':char(normalizer=llama), 'first':char(pre_tokenizer=meta('first',False)),'first_split':char(pre_tokenizer=meta('first',True)),
 'always':char(pre_tokenizer=meta('always',False),decoder=meta('always',False)),'always_split':char(pre_tokenizer=meta('always',True),decoder={"type":"Sequence","decoders":[{"type":"ByteFallback"},meta('always',True)]}),
 'never':char(pre_tokenizer=meta('never',True),decoder=meta('never',True)),
 'crossing':char(normalizer=llama,model=dict(vocab=dict(cv,**{"e▁":C}),merges=["e ▁"]+cm),added_tokens=[dict(t,id=t['id']+(t['id']>=C)) for t in ctoks]),
 'unk_fused':char(pre_tokenizer=meta('first',False),added_tokens=ntoks,model=dict(vocab=nb,byte_fallback=False),post_processor=None),
 'unk_apart':char(pre_tokenizer=meta('first',False),added_tokens=ntoks,model=dict(vocab=nb,byte_fallback=False,fuse_unk=False),post_processor=None,decoder=None),
 'unk_dropped':char(pre_tokenizer=meta('first',False),added_tokens=ntoks,model=dict(vocab=nb,byte_fallback=False,unk_token=None),post_processor=None),
 'few_bytes':char(pre_tokenizer=meta('first',False),added_tokens=[added(0,'<unk>',special=True)],model=dict(vocab=few),post_processor=None),
 'strip_each':char(normalizer=llama,decoder={"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Replace","pattern":{"Regex":"▁+"},"content":" "},{"type":"Strip","content":" ","start":0,"stop":1}]}),
 'fused_replace':char(normalizer=llama,decoder={"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"Strip","content":" ","start":1,"stop":2}]}),
 'sentence':char(normalizer=nseq({"type":"NFKC"},{"type":"StripAccents"},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "}),pre_tokenizer=meta('first',True)),
})
texts=["","a"," ","  ","   ","\n","Hello, world! the then  ther   inner\n\n  end","it's IT'S we'LL x'\u017f x's 'the 'S","\u2019s can\u2019t","naïve café Café Cafe\u0301 re\u0301sume\u0301 \u1e9b\u0323 \u212b \ufb01ne ﷺ ①② ½ Ǆ İstanbul ΑΣ",
"1234567890 12.5 ٣٤ ৪ Ⅷ 𝟘𝟙 x12y","中文字符 日本語テキスト 한국어 \u1112\u1161\u11ab","😀😃 👩‍👩‍👧 🇩🇪 𠀀𠀁 𐐀𐐨","<|end|> <|end|>x a<|end|>b <mask>  z <r>  \n q  <mask><r>   <|en","word words sword word. word,word _word word1 wórd\u0301 \u24b6word","   three    four     end  <s> </s> <unk> <0x41> ▁▁end▁ ▁","\t\ttabs\t \t mixed \u00a0nbsp\u2003em\u3000ideo\u200bzw\u2028ls","a\r\nb\r\r\n\n c...\n\n!!!\r\n ???\n x","(foo) [bar]{baz} a+b=c <tag/> $5 #x @y `z` ^~|","\u0301\u0301a \u0301 e\u0327\u0301 e\u0301\u0327 ạ\u0307 \u1100\u1161\u11a8 가\u11a8 \u0915\u093c \u0958","مرحبا بالعالم שלום नमस्ते ก็ไทย","\x00\x01\x7f\x80\ufffd\ufeff\uffff\U0010ffff","'","''s '","s' 's's's","the"*30,"e e e  e the the  the",".,.,'..'","ünknown üü ü 中é中ß"]
al="aehtlinr wo'sé中\n\t 12.,▁ĠÜ\u0301😀ſ<>|-_"+"   "
for i in range(60): texts.append(''.join(random.choice(al) for _ in range(random.randint(1,40))))
al2=[chr(c) for c in range(0x20,0x250)]+[chr(c) for r in((0x300,0x330),(0x370,0x5ff),(0x900,0x980),(0x1e00,0x2190),(0x2460,0x2500),(0x3000,0x3100),(0xac00,0xac40),(0xf900,0xf940),(0xfb00,0xfb10),(0xff00,0xffa0),(0x1d400,0x1d420),(0x1f600,0x1f610)) for c in range(*r)]
for i in range(60): texts.append(''.join(random.choice(al2) if random.random()<.8 else ' ' for _ in range(random.randint(1,30))))
json.dump({'tokenizers':variants,'texts':texts},open('in.json','w'),ensure_ascii=True)
print(len(variants),len(texts))
