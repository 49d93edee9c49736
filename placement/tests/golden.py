# An independent implementation of the ranking in docs/placement.md; checks the golden vectors.
# pip install xxhash; python golden.py fixtures/golden.txt
import xxhash,sys
le=lambda n:n.to_bytes(8,'little')
x=lambda b,s:xxhash.xxh3_64_intdigest(b,seed=int.from_bytes(s,'little'))
SEED={'partition':b'CAIRNDAT','slot':b'CAIRNSLT'}
def step(i):
    m=(1<<62)+(i<<54); r=0
    for _ in range(48):
        m=m*m>>62; r<<=1
        if m>=2<<62: m>>=1; r|=1
    return r
T=[step(i) for i in range(256)]+[1<<48]
def ml(h):
    h=max(h,1); n=h.bit_length()-1; f=(h<<(63-n))&((1<<63)-1); i=f>>55; w=f&((1<<55)-1)
    return (64<<48)-((n<<48)+T[i]+((T[i+1]-T[i])*w>>55))
hsh=lambda k,g,n:x(le(g)+le(n),SEED[k])
cost=lambda k,g,n,w:ml(hsh(k,g,n))*((2**64-1)//w)
W={i:100*(1+i%4) for i in range(1,13)}
TOK=sorted((x(le(i)+le(t),b'CAIRNTOK'),i) for i in W for t in range(-(-W[i]//16)))
def rank(s,k,g):
    if s=='rendezvous': return [n for _,n in sorted((cost(k,g,n,W[n]),n) for n in W)][:5]
    if s=='modulo': return [1+(g+j)%12 for j in range(5)]
    h=hsh(k,g,2**64-1); o=[]
    for p,n in [t for t in TOK if t[0]>=h]+[t for t in TOK if t[0]<h]:
        if n not in o:o.append(n)
    return o[:5]
bad=0;c=0
for line in open(sys.argv[1]):
    p=line.split(); k=p[0]
    if k=='log2': ok=T[int(p[1])]==int(p[2])
    elif k=='minus_log2': ok=ml(int(p[1]))==int(p[2])
    elif k=='hash': ok=hsh(p[1],int(p[2]),int(p[3]))==int(p[4])
    elif k=='cost': ok=cost(p[1],int(p[2]),int(p[3]),int(p[4]))==int(p[5])
    elif k=='partition_of': ok=(int(p[1])*4096>>64)==int(p[3])
    elif k=='slot_of': ok=x(le(7)+p[2].encode(),b'CAIRNKEY')%256==int(p[4])
    elif k=='rank': ok=rank(p[1],p[2],int(p[3]))==list(map(int,p[4:]))
    bad+=not ok;c+=1
print(c,'checked',bad,'bad')
